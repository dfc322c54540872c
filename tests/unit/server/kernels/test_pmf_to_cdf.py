"""The kernel that quantizes densities gives the integers of TFC's op, ties and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd_server.kernels import pmf_to_cdf
from entropyd_server.kernels.pmf_to_cdf import quantized_cdf

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")

from tensorflow_compression.python.ops import gen_ops

from entropyd_server.modeling.worker.quantization import is_slow


def assert_equal_to_the_op(pmf: npt.NDArray[np.float32], precision: int) -> None:
    expected = gen_ops.pmf_to_quantized_cdf(pmf, precision=precision).numpy()
    np.testing.assert_array_equal(quantized_cdf(pmf, precision), expected)


SHAPES = {
    "bell": lambda x, rng: np.exp(-8 * x**2),
    "cusp": lambda x, rng: np.exp(-9 * np.abs(x)),
    "tent": lambda x, rng: 1 - np.abs(x),
    "flat": lambda x, rng: np.ones_like(x),
    "few values": lambda x, rng: rng.integers(0, 4, len(x)).astype(float),
    "noise": lambda x, rng: rng.random(len(x)) ** 8,
}


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=40)
@given(data=st.data())
def test_rows_of_any_length_are_those_of_the_op(shape: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    precision = data.draw(st.integers(1, 16))
    length = data.draw(st.integers(2, min(2**precision, 5000)))
    density = SHAPES[shape](np.linspace(-1, 1, length), rng) + 1e-9
    mass = data.draw(st.sampled_from([0.5, 0.99, 1.0, 1.01, 3.0]))
    assert_equal_to_the_op((density * mass / density.sum()).astype(np.float32), precision)


@pytest.mark.parametrize("precision", [4, 12])
def test_a_density_far_above_1_is_lowered_as_the_op_does(precision: int) -> None:
    for others in ([0.0, 0.0], [0.25, 0.25], [700.0, 700.0], [1.0, 900.0]):
        assert_equal_to_the_op(np.array([others[0], 3000.0, others[1]], np.float32), precision)


def _killer(length: int) -> npt.NDArray[np.int64]:
    """An order that std::sort cuts badly, until it turns to a heap: Musser's, for the median of three."""
    half = length // 2
    order = np.empty(length, np.int64)
    order[0:half:2] = np.arange(1, half + 1, 2)
    order[1:half:2] = half + np.arange(1, half + 1, 2)
    order[half:] = 2 * np.arange(1, half + 1)
    return order


def test_ties_are_broken_as_the_op_does_where_sorting_goes_badly(monkeypatch: pytest.MonkeyPatch) -> None:
    heaps: list[int] = []
    sort = pmf_to_cdf._heap_sort.py_func  # type: ignore[attr-defined]

    def counted(queue: Any, costs: Any, first: int, last: int) -> None:
        heaps.append(last - first)
        sort(queue, costs, first, last)

    order = _killer(2**10)
    costs = (order // 4).astype(np.float64)
    with monkeypatch.context() as interpreted:
        interpreted.setattr(pmf_to_cdf, "_heap_sort", counted)
        in_python = np.arange(len(costs))
        pmf_to_cdf._sort.py_func(in_python, costs)  # type: ignore[attr-defined]
    assert heaps
    compiled = np.arange(len(costs))
    pmf_to_cdf._sort(compiled, costs)
    np.testing.assert_array_equal(compiled, in_python)
    # Costs of increments fall with the mass, so the op sorts densities in this order too.
    pmf = (3000 - costs).astype(np.float32)
    for mass in (0.9, 1.1):
        assert_equal_to_the_op((pmf * mass / pmf.sum()).astype(np.float32), 16)


def test_only_densities_on_which_the_op_is_slow_and_right_are_taken_from_it() -> None:
    long, short = np.full(2000, 1e-4, np.float32), np.full(20, 0.05, np.float32)
    alone, two = np.array([0, 1e4, 0], np.float32), np.array([0, 1e4, 1e4], np.float32)
    assert [is_slow(pmf, 12) for pmf in (long, short, alone, two)] == [True, False, True, False]
    for refused in (np.nan, np.inf, -1.0, 1e7):
        assert not is_slow(np.append(long, np.float32(refused)).astype(np.float32), 12)
