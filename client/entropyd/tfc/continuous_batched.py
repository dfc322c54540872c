"""TFC's ContinuousBatchedEntropyModel, with the coding done by a server."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd import Client
from entropyd._distributions import prior_of
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.prior import Prior
from entropyd.contract.tables import RawTables
from entropyd.tfc.batched import RemoteBatchedCoding
from entropyd.tfc.remote import common_arguments, precision_of, raw_tables
from entropyd.tfc.tensors import array_of_tensor


def config_of(em: tfc.ContinuousBatchedEntropyModel) -> ContinuousBatchedConfig:
    """The configuration of an object of TFC's class, with its tables."""
    if em.compression:
        return _with_tables(em, raw_tables(_tables(em)))
    # What TFC would compute whenever it quantizes is for the server to compute.
    return _config(em, 12, quantization_offset=em._quantization_offset)  # noqa: SLF001


def _tables(em: Any) -> list[Any]:
    offset = em.quantization_offset
    return [em.cdf, em.cdf_offset] if offset is None else [em.cdf, em.cdf_offset, offset]


def _prior(em: Any) -> Prior | None:
    """The prior; None if the object does not have it any more."""
    return None if em._prior is None else prior_of(em.prior)  # noqa: SLF001


def _with_tables(em: Any, tables: RawTables) -> ContinuousBatchedConfig:
    return _config(em, precision_of(tables), **tables._asdict())


def _config(em: Any, precision: int, quantization_offset: Any, **tables: Any) -> ContinuousBatchedConfig:
    prior = _prior(em)
    offset = None if quantization_offset is None else array_of_tensor(quantization_offset)
    return ContinuousBatchedConfig(
        prior=prior,
        prior_shape=tuple(em.prior_shape),
        # Without a prior there is nothing to compute an offset from, and an object that has none uses none.
        offset_heuristic=em.offset_heuristic and (prior is not None or offset is not None),
        quantization_offset=offset,
        decode_sanity_check=em.decode_sanity_check,
        **common_arguments(em, precision),
        **tables,
    )


class RemoteContinuousBatchedEntropyModel(RemoteBatchedCoding, tfc.ContinuousBatchedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes.

    See `RemoteCoding` for what happens when variables change, and for SavedModels.

    Args:
      prior: As in TFC, of a family that entropyd knows; and so are all others, defaults included.
      client: Connected to the server; needed with `compression=True`.
    """

    def __init__(  # noqa: PLR0917 - TFC's own order
        self,
        prior: Any = None,
        coding_rank: int | None = None,
        compression: bool = False,
        stateless: bool = False,
        expected_grads: bool = False,
        tail_mass: float = 2**-8,
        range_coder_precision: int = 12,
        bottleneck_dtype: Any = None,
        prior_shape: Any = None,
        cdf: Any = None,
        cdf_offset: Any = None,
        cdf_shapes: Any = None,
        offset_heuristic: bool = True,
        quantization_offset: Any = None,
        decode_sanity_check: bool = True,
        laplace_tail_mass: Any = 0,
        *,
        client: Client | None = None,
    ) -> None:
        self._use(client, compression=compression)
        # Beside cdf_shapes it says whether there will be one.
        self._given_offset = quantization_offset if cdf_shapes is None else None
        super().__init__(
            prior,
            coding_rank,
            compression=compression,
            stateless=stateless,
            expected_grads=expected_grads,
            tail_mass=tail_mass,
            range_coder_precision=range_coder_precision,
            bottleneck_dtype=bottleneck_dtype,
            prior_shape=prior_shape,
            cdf=cdf,
            cdf_offset=cdf_offset,
            cdf_shapes=cdf_shapes,
            offset_heuristic=offset_heuristic,
            quantization_offset=quantization_offset,
            decode_sanity_check=decode_sanity_check,
            laplace_tail_mass=laplace_tail_mass,
        )

    def get_config(self) -> dict[str, Any]:
        """See base class."""
        config: dict[str, Any] = tfc.ContinuousBatchedEntropyModel.get_config(self)
        return config

    def _prior_now(self) -> Prior | None:
        return _prior(self)

    def _config(self, tables: RawTables) -> ContinuousBatchedConfig:
        return _with_tables(self, tables)

    def _config_to_build(self, precision: int) -> ContinuousBatchedConfig:
        given = self._given_offset
        offset = None if given is None else tf.get_static_value(tf.convert_to_tensor(given))
        return _config(self, precision, offset)

    def _tables(self) -> list[Any]:
        return _tables(self)
