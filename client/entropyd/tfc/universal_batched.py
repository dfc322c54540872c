"""TFC's UniversalBatchedEntropyModel, with the coding done by a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow_compression as tfc

from entropyd._distributions import prior_of
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.tfc.remote import RemoteCoding, precision_of, raw_tables

if TYPE_CHECKING:
    from entropyd import Client
    from entropyd.contract.tables import RawTables


def config_of(em: tfc.UniversalBatchedEntropyModel) -> UniversalBatchedConfig:
    """The configuration of an object of TFC's class, with its tables."""
    if not em.compression:
        return _config(em, 12, None)
    tables = raw_tables([em.cdf, em.cdf_offset])
    return _config(em, precision_of(tables), tables)


def _config(em: Any, precision: int, tables: RawTables | None) -> UniversalBatchedConfig:
    return UniversalBatchedConfig(
        prior=prior_of(em.prior),
        coding_rank=em.coding_rank,
        compression=em.compression,
        laplace_tail_mass=float(em.laplace_tail_mass),
        expected_grads=em.expected_grads,
        tail_mass=em.tail_mass,
        range_coder_precision=precision,
        bottleneck_dtype=em.bottleneck_dtype.name,
        num_noise_levels=em._num_noise_levels,  # noqa: SLF001 - TFC 2.14.1 has no public name for it
        stateless=em.stateless,
        decode_sanity_check=em.decode_sanity_check,
        tables=None if tables is None else (tables.cdf, tables.cdf_offset),
    )


class RemoteUniversalBatchedEntropyModel(RemoteCoding, tfc.UniversalBatchedEntropyModel):  # type: ignore[misc]
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

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; TFC's class does not implement it.

        Raises:
          RuntimeError: With `compression=False` or `stateless=True`.
        """
        if self.stateless or not self.compression:
            raise RuntimeError("a model with compression=False or stateless=True has no config to serialise")
        return self.remote.get_config()

    def _config(self, tables: RawTables) -> UniversalBatchedConfig:
        return _config(self, precision_of(tables), tables)

    def _config_to_build(self, precision: int) -> UniversalBatchedConfig:
        return _config(self, precision, None)

    def _tables(self) -> list[Any]:
        return [self.cdf, self.cdf_offset]
