"""Models whose rows are picked by index, with supplied tables, so that no server has to build any."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

import entropyd
from entropyd import priors
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from entropyd.contract.kinds.indexed import IndexedConfig

PRECISION = 12
_KINDS = {
    config.kind: config
    for config in (
        entropyd.ContinuousIndexedConfig,
        entropyd.LocationScaleIndexedConfig,
        entropyd.UniversalIndexedConfig,
    )
}
INDEXED_KINDS = tuple(_KINDS)


def spread_tables(rows: int) -> CodingTables:
    """Row i spreads over about i + 1 integers to each side of 0, all of them different."""
    cdf: list[int] = []
    for row in range(rows):
        reach = 1 + row % 40
        cuts = np.linspace(0, (1 << PRECISION) - 8 - row // 40, 2 * reach + 2).astype(int)
        cdf += [-PRECISION, *cuts.tolist(), 1 << PRECISION]
    return CodingTables.parse(cdf, [-(1 + row % 40) for row in range(rows)])


def indexed_config(kind: str, ranges: tuple[int, ...] = (8,), **fields: Any) -> IndexedConfig:
    """A config of coding rank 2, unless given otherwise, with the tables of `spread_tables`."""
    scales = (1.0 + np.arange(prod(ranges), dtype=np.float32)).reshape(ranges)
    given: dict[str, Any] = {"coding_rank": 2, "range_coder_precision": PRECISION, **fields}
    rows = prod(ranges)
    if kind == "universal_indexed":
        rows *= given.setdefault("num_noise_levels", 3)
    tables = spread_tables(rows)
    prior = priors.NoisyNormal(loc=0.0, scale=scales)
    config: IndexedConfig = _KINDS[kind](prior=prior, tables=(tables.cdf, tables.cdf_offset), **given)
    return config
