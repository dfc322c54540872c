"""Laws of coding plans: the dither depends on the coding shape alone, and a shape is compiled once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from entropyd_server.coding.plan import CodingPlan, PlanCache, noise_levels


def test_the_dither_begins_as_in_tensorflow_compression() -> None:
    assert noise_levels(12, 15).tolist() == [5, 13, 11, 12, 1, 7, 1, 7, 1, 4, 1, 2]


def test_rows_are_noise_level_major() -> None:
    plan = CodingPlan.compile((2, 2), (3,), 15, np.float32)
    assert plan.unit_shape == (2, 2, 3)
    assert plan.symbols == 12
    levels = noise_levels(12, 15)
    assert plan.row_index.tolist() == [level * 3 + k % 3 for k, level in enumerate(levels.tolist())]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_offsets_are_computed_in_float64_and_rounded_once(dtype: type) -> None:
    plan = CodingPlan.compile((7,), (), 15, dtype)
    assert plan.offsets.dtype == dtype
    assert plan.offsets.tolist() == [dtype((level + 1) / 16 - 0.5) for level in noise_levels(7, 15).tolist()]


def test_one_noise_level_has_no_dither() -> None:
    assert CodingPlan.compile((5,), (2,), 1, np.float32).offsets.tolist() == [0.0] * 10


def test_an_element_is_named_by_its_index_in_the_coding_unit() -> None:
    plan = CodingPlan.compile((2, 3), (4,), 15, np.float32)
    assert plan.element(0) == (0, 0, 0)
    assert plan.element(17) == (1, 1, 1)
    assert CodingPlan.compile((), (), 15, np.float32).element(0) == ()


def test_units_without_symbols_have_plans() -> None:
    plan = CodingPlan.compile((0, 3), (4,), 15, np.float32)
    assert (plan.symbols, plan.nbytes) == (0, 0)


def plan_of(shape: tuple[int, ...]) -> CodingPlan:
    return CodingPlan.compile(shape, (), 15, np.float32)


def test_a_shape_is_compiled_once_however_many_threads_ask() -> None:
    builds, start = [], threading.Barrier(4)

    def build(shape: tuple[int, ...]) -> CodingPlan:
        builds.append(shape)
        return plan_of(shape)

    cache = PlanCache(max_plans=2, max_bytes=1000)

    def ask(_: int) -> CodingPlan:
        start.wait()
        return cache.get((8,), build)

    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(ask, range(4)))
    assert builds == [(8,)]
    assert all(plan is plans[0] for plan in plans)


def test_the_plan_used_longest_ago_is_dropped_first() -> None:
    builds: list[tuple[int, ...]] = []

    def build(shape: tuple[int, ...]) -> CodingPlan:
        builds.append(shape)
        return plan_of(shape)

    cache = PlanCache(max_plans=2, max_bytes=1000)
    for size in (1, 2, 1, 3, 1, 2):
        cache.get((size,), build)
    assert builds == [(1,), (2,), (3,), (2,)]


def test_the_cache_holds_bytes_within_its_bound_but_for_the_newest_plan() -> None:
    cache = PlanCache(max_plans=100, max_bytes=80)
    for size in range(1, 8):
        cache.get((size,), plan_of)
        assert cache.nbytes <= 80
    assert cache.get((1000,), plan_of) is cache.get((1000,), plan_of)
    assert cache.nbytes == 8000
    cache.get((1,), plan_of)
    assert cache.nbytes == 8


def test_a_failed_compilation_reaches_its_caller_and_is_not_kept() -> None:
    answers = [MemoryError("no room"), None]

    def build(shape: tuple[int, ...]) -> CodingPlan:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return plan_of(shape)

    cache = PlanCache(max_plans=2, max_bytes=1000)
    with pytest.raises(MemoryError):
        cache.get((3,), build)
    assert cache.get((3,), build).symbols == 3
