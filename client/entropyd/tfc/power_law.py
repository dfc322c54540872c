"""TFC's PowerLawEntropyModel, with the coding done by a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd import Client, Model
from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd.tfc.batched import RemoteBatchedCoding


def config_of(em: tfc.PowerLawEntropyModel) -> PowerLawConfig:
    """The configuration of an object of TFC's class."""
    return PowerLawConfig(
        coding_rank=em.coding_rank, alpha=em.alpha, bottleneck_dtype=em.bottleneck_dtype.name
    )


class RemotePowerLawEntropyModel(RemoteBatchedCoding, tfc.PowerLawEntropyModel):  # type: ignore[misc]
    """TFC's class, whose strings a server codes. See `RemoteCoding` for SavedModels.

    Args:
      coding_rank: As in TFC, and so are all others, defaults included.
      client: Connected to the server; without it the object can only be called and trained.
    """

    prior_shape = tf.TensorShape([])

    def __init__(
        self,
        coding_rank: int,
        alpha: float = 1e-2,
        bottleneck_dtype: Any = None,
        *,
        client: Client | None = None,
    ) -> None:
        self._use(client, compression=False)
        super().__init__(coding_rank, alpha=alpha, bottleneck_dtype=bottleneck_dtype)

    def decompress(self, strings: Any, code_shape: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        return super().decompress(strings, code_shape)

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; TFC's class has no such method."""
        return config_of(self).to_dict()

    def _check_compression(self) -> None:
        if self._client is None:
            raise RuntimeError("a PowerLaw model that was made without client= cannot compress or decompress")

    def _prior_now(self) -> None:
        return None

    def _tables(self) -> list[Any]:
        return []

    def _register(self, tables: Sequence[Any]) -> Model:
        return self._create(config_of(self), tuple(tables))
