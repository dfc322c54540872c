"""The codec of each kind of model: how its rows are picked, and in what way it converts values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from entropyd.contract.config import ModelConfig
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd_server.coding.batched import BatchedCodec
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables

_CODECS: Mapping[type[ModelConfig], Callable[[Any, CodingTables], BatchedCodec]] = {
    UniversalBatchedConfig: UniversalBatchedCodec.of,
    ContinuousBatchedConfig: ContinuousBatchedCodec.of,
}


def codec_of(config: ModelConfig, tables: CodingTables) -> BatchedCodec:
    """Makes the codec of a model; raises InvalidConfigError if the tables are not those of such a config."""
    return _CODECS[type(config)](config, tables)
