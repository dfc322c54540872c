"""The kinds of model: one module for each, and the registry by which a document finds its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entropyd.contract.config import ModelConfig

KINDS: Mapping[str, type[ModelConfig]] = {
    config.kind: config for config in (UniversalBatchedConfig, ContinuousBatchedConfig)
}
_EXPECTED = f"expected {' or '.join(KINDS)}"


def config_from_dict(document: Any) -> ModelConfig:
    """Restores a configuration of any kind from its dictionary.

    Raises:
      InvalidConfigError: If it is no dictionary of a configuration, or describes no model.
    """
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
      InvalidConfigError: If it cannot make a model; names every field that is wrong.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidConfigError.at("config", f"has no kind; {_EXPECTED}")
    return KINDS[kind].from_message(getattr(message, kind))
