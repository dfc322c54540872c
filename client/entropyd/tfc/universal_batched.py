"""TFC's UniversalBatchedEntropyModel, with the coding done by a server."""

from __future__ import annotations

from typing import Any

import tensorflow_compression as tfc

from entropyd import Client
from entropyd._distributions import prior_of
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.tfc.batched import RemoteBatchedCoding
from entropyd.tfc.remote import TablePair, common_arguments, config_as_it_is


def config_of(em: tfc.UniversalBatchedEntropyModel) -> UniversalBatchedConfig:
    """The configuration of an object of TFC's class, with its tables."""
    return config_as_it_is(em, _config)


def _config(em: Any, precision: int, tables: TablePair | None) -> UniversalBatchedConfig:
    return UniversalBatchedConfig(
        prior=prior_of(em.prior),
        num_noise_levels=em._num_noise_levels,  # noqa: SLF001 - TFC 2.14.1 has no public name for it
        decode_sanity_check=em.decode_sanity_check,
        tables=tables,
        **common_arguments(em, precision),
    )


class RemoteUniversalBatchedEntropyModel(RemoteBatchedCoding, tfc.UniversalBatchedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes.

    See `RemoteCoding` for what happens when variables change, and for SavedModels.

    Args:
      prior: As in TFC, of a family that entropyd knows.
      coding_rank: As in TFC, and so are all others, defaults included.
      client: Connected to the server; needed with `compression=True`.
    """

    def __init__(  # noqa: PLR0917 - TFC's own order
        self,
        prior: Any,
        coding_rank: int,
        compression: bool = False,
        laplace_tail_mass: Any = 0.0,
        expected_grads: bool = False,
        tail_mass: float = 2**-8,
        range_coder_precision: int = 12,
        bottleneck_dtype: Any = None,
        num_noise_levels: int = 15,
        stateless: bool = False,
        decode_sanity_check: bool = True,
        *,
        client: Client | None = None,
    ) -> None:
        self._use(client, compression=compression)
        super().__init__(
            prior,
            coding_rank,
            compression=compression,
            laplace_tail_mass=laplace_tail_mass,
            expected_grads=expected_grads,
            tail_mass=tail_mass,
            range_coder_precision=range_coder_precision,
            bottleneck_dtype=bottleneck_dtype,
            num_noise_levels=num_noise_levels,
            stateless=stateless,
            decode_sanity_check=decode_sanity_check,
        )

    def _config_with(self, precision: int, tables: TablePair | None) -> UniversalBatchedConfig:
        return _config(self, precision, tables)
