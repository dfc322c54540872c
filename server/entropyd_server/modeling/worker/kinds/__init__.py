"""From a configuration's kind to TFC's class: one module for each kind, and the registry."""

from __future__ import annotations

from collections.abc import Mapping

from entropyd.contract.config import ModelConfig
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.continuous_indexed import ContinuousIndexedConfig
from entropyd.contract.kinds.location_scale_indexed import LocationScaleIndexedConfig
from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.contract.kinds.universal_indexed import UniversalIndexedConfig
from entropyd_server.modeling.worker.kinds import (
    continuous_batched,
    continuous_indexed,
    location_scale_indexed,
    power_law,
    universal_batched,
    universal_indexed,
)
from entropyd_server.modeling.worker.kinds.kind import Kind

KINDS: Mapping[type[ModelConfig], Kind] = {
    UniversalBatchedConfig: universal_batched.KIND,
    ContinuousBatchedConfig: continuous_batched.KIND,
    ContinuousIndexedConfig: continuous_indexed.KIND,
    LocationScaleIndexedConfig: location_scale_indexed.KIND,
    UniversalIndexedConfig: universal_indexed.KIND,
    PowerLawConfig: power_law.KIND,
}


def kind_of(config: ModelConfig) -> Kind:
    return KINDS[type(config)]
