"""From a configuration's kind to TFC's class: one module for each kind, and the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd_server.modeling.worker.kinds import continuous_batched, universal_batched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entropyd.contract.config import ModelConfig
    from entropyd_server.modeling.worker.kinds.kind import Kind

KINDS: Mapping[type[ModelConfig], Kind] = {
    UniversalBatchedConfig: universal_batched.KIND,
    ContinuousBatchedConfig: continuous_batched.KIND,
}


def kind_of(config: ModelConfig) -> Kind:
    """What a worker does for the kind of a configuration."""
    return KINDS[type(config)]
