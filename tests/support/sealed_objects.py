"""Model objects whose seal is right, whatever they say: what a hostile caller of ImportModel can make."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save

from entropyd import UniversalBatchedConfig, priors
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

TABLES = CodingTables.parse([-4, 0, 3, 16, -4, 0, 1, 2, 16], [-1, 5])
OTHER_TABLES = CodingTables.parse([-4, 0, 4, 16, -4, 0, 1, 2, 16], [-1, 5])


def two_row_config(**fields: Any) -> UniversalBatchedConfig:
    """A config that both tables fit."""
    given: dict[str, Any] = {"coding_rank": 1, "num_noise_levels": 1, "range_coder_precision": 4, **fields}
    return UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, [1.0, 2.0]), **given)


def sealed(
    metadata: Mapping[str, str] | None = None,
    *,
    tables: CodingTables = TABLES,
    tensors: Mapping[str, npt.NDArray[Any]] | None = None,
) -> bytes:
    """The object of `two_row_config()` with `tables`, unless other metadata or tensors are given."""
    values = {
        "format": "1",
        "config": two_row_config().canonical_json.decode(),
        "tables_digest": tables.digest.hex(),
        "built_with": "{}",
        **(metadata or {}),
    }
    named = {f"entropyd.{name}": value for name, value in values.items()}
    canonical = json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    named["entropyd.seal"] = hashlib.sha256(canonical.encode()).hexdigest()
    whole = {"cdf": tables.cdf, "cdf_offset": tables.cdf_offset}
    return bytes(save(dict(whole if tensors is None else tensors), named))
