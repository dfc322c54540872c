"""TFC's ContinuousIndexedEntropyModel, with the coding done by a server."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd import Client
from entropyd.contract.kinds.continuous_indexed import ContinuousIndexedConfig
from entropyd.tfc.indexed import RemoteIndexedCoding, indexed_arguments
from entropyd.tfc.remote import TablePair, config_as_it_is


def config_of(em: tfc.ContinuousIndexedEntropyModel) -> ContinuousIndexedConfig:
    """The configuration of an object of TFC's class, with its tables."""
    return config_as_it_is(em, _config)


def _config(em: Any, precision: int, tables: TablePair | None) -> ContinuousIndexedConfig:
    return ContinuousIndexedConfig(
        channel_axis=em.channel_axis,
        decode_sanity_check=em.decode_sanity_check,
        tables=tables,
        **indexed_arguments(em, em.index_ranges, em.channel_axis, precision),
    )


class RemoteContinuousIndexedEntropyModel(RemoteIndexedCoding, tfc.ContinuousIndexedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes.

    See `RemoteCoding` for what happens when variables change, and for SavedModels.

    Args:
      prior_fn: As in TFC, and so are all others, defaults included. It makes a prior of a family that
        entropyd knows.
      client: Connected to the server; needed with `compression=True`.
    """

    def __init__(  # noqa: PLR0917 - TFC's own order
        self,
        prior_fn: Any,
        index_ranges: Any,
        parameter_fns: Any,
        coding_rank: int,
        channel_axis: int | None = -1,
        compression: bool = False,
        stateless: bool = False,
        expected_grads: bool = False,
        tail_mass: float = 2**-8,
        range_coder_precision: int = 12,
        bottleneck_dtype: Any = None,
        prior_dtype: Any = tf.float32,
        decode_sanity_check: bool = True,
        laplace_tail_mass: Any = 0,
        *,
        client: Client | None = None,
    ) -> None:
        self._use(client, compression=compression)
        super().__init__(
            prior_fn,
            index_ranges,
            parameter_fns,
            coding_rank,
            channel_axis=channel_axis,
            compression=compression,
            stateless=stateless,
            expected_grads=expected_grads,
            tail_mass=tail_mass,
            range_coder_precision=range_coder_precision,
            bottleneck_dtype=bottleneck_dtype,
            prior_dtype=prior_dtype,
            decode_sanity_check=decode_sanity_check,
            laplace_tail_mass=laplace_tail_mass,
        )

    def _config_with(self, precision: int, tables: TablePair | None) -> ContinuousIndexedConfig:
        return _config(self, precision, tables)
