"""Configurations as tests/vectors/identity.json and docs/identity.md write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.kinds import KINDS
from entropyd.contract.kinds.tabulated import TabulatedConfig
from entropyd.contract.prior import Prior

if TYPE_CHECKING:
    from entropyd import ModelConfig

TENSORS = ("quantization_offset",)
VECTORS_PATH = Path(__file__).parents[1] / "vectors" / "identity.json"


def config_of(given: dict[str, Any]) -> ModelConfig:
    """Reads a configuration whose tensors are written as dtype, shape and values."""
    fields = {name: _parameter(value) if name in TENSORS else value for name, value in given.items()}
    if "prior" in given:
        fields["prior"] = _prior(given["prior"])
    if "tables" in given:
        fields["tables"] = (given["tables"]["cdf"], given["tables"]["cdf_offset"])
    kind = KINDS[fields.pop("kind", "universal_batched")]
    return TabulatedConfig.of_tables(**fields) if kind is TabulatedConfig else kind(**fields)


def _prior(prior: dict[str, Any]) -> Prior:
    parameters = {name: _parameter(value) for name, value in prior["parameters"].items()}
    return Prior(prior["family"], parameters, prior.get("index_ranges"))


def _parameter(value: Any) -> Any:
    if isinstance(value, dict) and "family" in value:
        return _prior(value)
    if isinstance(value, dict) and "function" in value:
        return IndexFunction(value["function"], value["arguments"], value.get("axis", 0))
    if isinstance(value, dict):
        return np.array(value["values"], value["dtype"]).reshape(value["shape"])
    return value
