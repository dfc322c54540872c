"""The kinds of model: one module for each, and the registry by which a document finds its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.continuous_indexed import ContinuousIndexedConfig
from entropyd.contract.kinds.indexed import IndexedConfig
from entropyd.contract.kinds.location_scale_indexed import LocationScaleIndexedConfig
from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd.contract.kinds.tabulated import TabulatedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.contract.kinds.universal_indexed import UniversalIndexedConfig
from entropyd.v1 import types_pb2

KINDS: Mapping[str, type[ModelConfig]] = {
    config.kind: config
    for config in (
        UniversalBatchedConfig,
        ContinuousBatchedConfig,
        ContinuousIndexedConfig,
        LocationScaleIndexedConfig,
        UniversalIndexedConfig,
        PowerLawConfig,
        TabulatedConfig,
    )
}
_EXPECTED = f"expected one of {', '.join(KINDS)}"


def config_from_dict(document: Any) -> ModelConfig:
    """Restores a configuration from what `to_dict` made; raises InvalidConfigError for anything else."""
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        found = "is missing" if kind is None else f"is {kind!r:.80}"
        raise InvalidConfigError.at("config.kind", f"{found}; {_EXPECTED}")
    return KINDS[kind].from_dict(document)


def config_to_message(config: ModelConfig) -> types_pb2.ModelConfig:
    """Renders a configuration, every default filled in."""
    return types_pb2.ModelConfig(**{config.kind: config.to_message()})


def config_from_message(message: types_pb2.ModelConfig) -> ModelConfig:
    """Reads a configuration; unset fields take their defaults.

    Raises:
      InvalidConfigError: Naming every field that is wrong.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidConfigError.at("config", f"has no kind; {_EXPECTED}")
    return KINDS[kind].from_message(getattr(message, kind))


def check_fittable(config: ModelConfig) -> None:
    """Raises InvalidConfigError for a kind whose prior cannot be fitted to samples, naming those that can."""
    apart = (IndexedConfig, PowerLawConfig, TabulatedConfig)
    if isinstance(config, apart):
        fitted = " or ".join(name for name, kind in KINDS.items() if not issubclass(kind, apart))
        expected = f"expected {fitted}, whose priors can be fitted to samples"
        raise InvalidConfigError.at("config.kind", f"is {config.kind}; {expected}")
