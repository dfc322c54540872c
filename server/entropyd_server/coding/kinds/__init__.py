"""The codec of each kind of model: how its rows are picked, and in what way it converts values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from entropyd.contract.config import ModelConfig
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.continuous_indexed import ContinuousIndexedConfig
from entropyd.contract.kinds.location_scale_indexed import LocationScaleIndexedConfig
from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd.contract.kinds.tabulated import TabulatedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.contract.kinds.universal_indexed import UniversalIndexedConfig
from entropyd_server.coding.codec import Codec
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.tabulated import tabulated_codec
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.kinds.universal_indexed import UniversalIndexedCodec
from entropyd_server.coding.tables import CodingTables

_CODECS: Mapping[type[ModelConfig], Callable[[Any, Any], Codec]] = {
    UniversalBatchedConfig: UniversalBatchedCodec.of,
    ContinuousBatchedConfig: ContinuousBatchedCodec.of,
    ContinuousIndexedConfig: ContinuousIndexedCodec.of,
    LocationScaleIndexedConfig: ContinuousIndexedCodec.of,
    UniversalIndexedConfig: UniversalIndexedCodec.of,
    PowerLawConfig: PowerLawCodec.of,
    TabulatedConfig: tabulated_codec,
}


def codec_of(config: ModelConfig, tables: CodingTables | None) -> Codec:
    """Makes the codec of a model, whose `tables` are None if its kind has none.

    Raises:
      InvalidConfigError: The tables are not those of such a config.
    """
    return _CODECS[type(config)](config, tables)
