"""Configurations as tests/vectors/identity.json and docs/identity.md write them.

Owns the way from that human form to a configuration. It must not know how an id is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from entropyd import UniversalBatchedConfig
from entropyd.contract.prior import Prior

VECTORS_PATH = Path(__file__).parents[1] / "vectors" / "identity.json"


def config_of(given: dict[str, Any]) -> UniversalBatchedConfig:
    """Reads a configuration whose tensors are written as dtype, shape and values."""
    fields = dict(given, prior=_prior(given["prior"]))
    if "tables" in given:
        fields["tables"] = (given["tables"]["cdf"], given["tables"]["cdf_offset"])
    return UniversalBatchedConfig(**fields)


def _prior(prior: dict[str, Any]) -> Prior:
    return Prior(prior["family"], {name: _parameter(value) for name, value in prior["parameters"].items()})


def _parameter(value: Any) -> Any:
    if isinstance(value, dict) and "family" in value:
        return _prior(value)
    if isinstance(value, dict):
        return np.array(value["values"], value["dtype"]).reshape(value["shape"])
    return value
