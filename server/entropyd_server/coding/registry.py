"""The codec of each kind of model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from entropyd.contract.config import ModelConfig
    from entropyd_server.coding.batched import BatchedCodec
    from entropyd_server.coding.tables import CodingTables

_CODECS: Mapping[type[ModelConfig], Callable[[Any, CodingTables], BatchedCodec]] = {
    UniversalBatchedConfig: UniversalBatchedCodec.of,
    ContinuousBatchedConfig: ContinuousBatchedCodec.of,
}


def codec_of(config: ModelConfig, tables: CodingTables) -> BatchedCodec:
    """Makes the codec of a model.

    Raises:
      InvalidConfigError: If the tables are not those of such a config.
    """
    return _CODECS[type(config)](config, tables)
