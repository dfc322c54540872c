"""Laws of rows: the dither depends on the coding shape alone, and a shape's rows are picked once."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.kinds.universal_batched import dithered_rows
from entropyd_server.coding.rows import Rows, RowsCache, Shape


def rows_of(
    broadcast_shape: Shape, prior_shape: Shape = (), levels: int = 15, dtype: npt.DTypeLike = np.float32
) -> Rows:
    unit_shape = broadcast_shape + prior_shape
    return Rows(unit_shape, *dithered_rows(unit_shape, math.prod(prior_shape), levels, dtype))


def test_the_dither_begins_as_in_tensorflow_compression() -> None:
    assert noise_levels(12, 15).tolist() == [5, 13, 11, 12, 1, 7, 1, 7, 1, 4, 1, 2]


def test_rows_are_noise_level_major() -> None:
    rows = rows_of((2, 2), (3,))
    assert rows.unit_shape == (2, 2, 3)
    assert rows.symbols == 12
    levels = noise_levels(12, 15)
    assert rows.row_index.tolist() == [level * 3 + k % 3 for k, level in enumerate(levels.tolist())]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_offsets_are_computed_in_float64_and_rounded_once(dtype: type) -> None:
    rows = rows_of((7,), dtype=dtype)
    assert rows.offsets.dtype == dtype
    assert rows.offsets.tolist() == [dtype((level + 1) / 16 - 0.5) for level in noise_levels(7, 15).tolist()]


def test_one_noise_level_has_no_dither() -> None:
    assert rows_of((5,), (2,), 1).offsets.tolist() == [0.0] * 10


def test_an_element_is_named_by_its_index_in_the_coding_unit() -> None:
    rows = rows_of((2, 3), (4,))
    assert rows.element(0) == (0, 0, 0)
    assert rows.element(17) == (1, 1, 1)
    assert rows_of((), ()).element(0) == ()


def test_units_without_symbols_have_rows() -> None:
    rows = rows_of((0, 3), (4,))
    assert (rows.symbols, rows.nbytes) == (0, 0)


def test_a_shape_is_compiled_once_however_many_threads_ask() -> None:
    builds, start = [], threading.Barrier(4)

    def build(shape: tuple[int, ...]) -> Rows:
        builds.append(shape)
        return rows_of(shape)

    cache = RowsCache(max_shapes=2, max_bytes=1000)

    def ask(_: int) -> Rows:
        start.wait()
        return cache.get((8,), build)

    with ThreadPoolExecutor(4) as threads:
        cached = list(threads.map(ask, range(4)))
    assert builds == [(8,)]
    assert all(rows is cached[0] for rows in cached)


def test_the_rows_used_longest_ago_is_dropped_first() -> None:
    builds: list[tuple[int, ...]] = []

    def build(shape: tuple[int, ...]) -> Rows:
        builds.append(shape)
        return rows_of(shape)

    cache = RowsCache(max_shapes=2, max_bytes=1000)
    for size in (1, 2, 1, 3, 1, 2):
        cache.get((size,), build)
    assert builds == [(1,), (2,), (3,), (2,)]


def test_the_cache_holds_bytes_within_its_bound_but_for_the_newest_rows() -> None:
    cache = RowsCache(max_shapes=100, max_bytes=80)
    for size in range(1, 8):
        cache.get((size,), rows_of)
        assert cache.nbytes <= 80
    assert cache.get((1000,), rows_of) is cache.get((1000,), rows_of)
    assert cache.nbytes == 8000
    cache.get((1,), rows_of)
    assert cache.nbytes == 8


def test_a_failed_compilation_reaches_its_caller_and_is_not_kept() -> None:
    answers = [MemoryError("no room"), None]

    def build(shape: tuple[int, ...]) -> Rows:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return rows_of(shape)

    cache = RowsCache(max_shapes=2, max_bytes=1000)
    with pytest.raises(MemoryError):
        cache.get((3,), build)
    assert cache.get((3,), build).symbols == 3
