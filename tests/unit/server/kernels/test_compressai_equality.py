"""Strings of the rANS kernels are those of CompressAI's own extension, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entropyd_server.kernels.range_coder import Status
from tests.support import compressai_extensions
from tests.support.coding_cases import Row, tables_of
from tests.support.rans_cases import decode_rans as decode
from tests.support.rans_cases import encode_rans as encode

ARRAYS = 2000


@pytest.fixture(scope="module")
def extension() -> Any:
    try:
        return compressai_extensions.load("ans")
    except compressai_extensions.UnavailableError as error:
        pytest.skip(str(error))


def _row(rng: np.random.Generator) -> Row:
    intervals = int(rng.choice([1, 2, 10, rng.integers(1, 300), rng.integers(1, 4001)]))
    cuts = np.sort(rng.choice(2**16 - 1, intervals, replace=False) + 1).tolist()
    return [0, *cuts, 2**16], int(rng.integers(-5000, 5000))


def _integers(rng: np.random.Generator, row: Row, count: int, escapes: float) -> np.ndarray[Any, Any]:
    bounds, cdf_offset = row
    inside = rng.integers(0, len(bounds) - 2, count)
    far = rng.integers(0, 1 << rng.integers(0, 28, count))  # from 2^27 on theirs does not return
    outside = np.where(rng.random(count) < 0.5, -1 - far, len(bounds) - 2 + far)
    return cdf_offset + np.where(rng.random(count) < escapes, outside, inside)


def test_strings_are_those_of_the_extension_in_both_directions(extension: Any) -> None:
    rng = np.random.default_rng(0)
    escaped = 0
    for _ in range(ARRAYS):
        rows = [_row(rng) for _ in range(rng.integers(1, 4))]
        row_index = rng.integers(0, len(rows), rng.integers(3, 60))
        escapes = float(rng.choice([0, 0.02, 0.5, 1]))
        unit = np.empty(len(row_index), np.int64)
        for index, row in enumerate(rows):
            own = row_index == index
            unit[own] = _integers(rng, row, int(own.sum()), escapes)
        escaped += escapes == 1
        given = row_index.tolist(), *(list(each) for each in zip(*_as_theirs(rows), strict=True))
        theirs = extension.RansEncoder().encode_with_indexes(unit.tolist(), *given)
        tables = tables_of(16, rows)
        assert encode(tables, row_index.tolist(), [unit.tolist()]) == ([theirs], [Status.OK], [-1])
        assert decode(tables, row_index.tolist(), [theirs])[0] == [unit.tolist()]
        assert extension.RansDecoder().decode_with_indexes(theirs, *given) == unit.tolist()
    assert escaped > ARRAYS / 5


def _as_theirs(rows: list[Row]) -> list[tuple[list[int], int, int]]:
    return [(bounds, len(bounds), cdf_offset) for bounds, cdf_offset in rows]
