"""Rows from probabilities: legal, least in cost, and CompressAI's integers where those are wanted."""

from __future__ import annotations

import heapq
from math import log1p
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import entropyd
from entropyd import tables

PROBABILITIES = hnp.arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.sampled_from([0, 1e-300, 1e-9, 1e-4, 0.1, 1]) | st.floats(0, 1),
)


def greedy(probabilities: npt.NDArray[np.float64], precision: int) -> npt.NDArray[np.int64]:
    """The frequencies of least cost, given one at a time to whichever gains most."""
    frequencies = np.ones(len(probabilities), np.int64)
    gains = [(-share * log1p(1), symbol) for symbol, share in enumerate(probabilities)]
    heapq.heapify(gains)
    for _ in range((1 << precision) - len(probabilities)):
        symbol = gains[0][1]
        frequencies[symbol] += 1
        heapq.heapreplace(gains, (-probabilities[symbol] * log1p(1 / frequencies[symbol]), symbol))
    return frequencies


def stolen(probabilities: npt.NDArray[np.float64], precision: int) -> list[int]:
    """What `pmf_to_quantized_cdf` does: each 0 takes 1 from the first of the smallest frequencies above 1."""
    scaled = [float(share) * 2.0**precision for share in probabilities.astype(np.float32)]
    counts = [int(share + 0.5) for share in scaled]  # exact: a float32 has room for the half in a double
    frequencies = [(count << precision) // sum(counts) for count in counts]
    frequencies[-1] += (1 << precision) - sum(frequencies)
    for symbol in range(len(frequencies)):
        if not frequencies[symbol]:
            smallest = min(frequency for frequency in frequencies if frequency > 1)
            frequencies[frequencies.index(smallest)] -= 1
            frequencies[symbol] = 1
    return frequencies


def cost(probabilities: npt.NDArray[np.float64], frequencies: npt.NDArray[Any]) -> float:
    return float(-(probabilities * np.log2(frequencies)).sum())


def with_escape(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities, the escape's last."""
    total = weights.sum()
    return weights / total if total else np.full(len(weights), 1 / len(weights))


@settings(max_examples=60)
@given(PROBABILITIES, st.integers(6, 12))
def test_no_row_costs_less_than_the_optimal_one(weights: npt.NDArray[np.float64], precision: int) -> None:
    shares = with_escape(weights)
    row = tables.from_pmf(shares[:-1], precision, escape=shares[-1])
    assert row[0] == 0
    assert row[-1] == 1 << precision
    assert np.diff(row).min() >= 1
    assert cost(shares, np.diff(row)) <= cost(shares, greedy(shares, precision)) + 1e-9


@settings(max_examples=60)
@given(PROBABILITIES, st.sampled_from([6, 12, 16]))
def test_compressais_rows_are_those_of_its_rule(weights: npt.NDArray[np.float64], precision: int) -> None:
    shares = with_escape(weights)
    row = tables.from_pmf(shares[:-1], precision, escape=shares[-1], quantization="compressai")
    assert np.diff(row).tolist() == stolen(shares, precision)


def test_compressais_rows_are_what_its_extension_returned() -> None:
    # pmf_to_quantized_cdf of compressai 1.2.8, called with these numbers.
    for shares, precision, expected in (
        ([0.5, 0.25, 0.25], 4, [0, 8, 12, 16]),
        ([1e-9, 1e-9, 1e-9, 1.0], 4, [0, 1, 2, 3, 16]),
        ([1 / 3, 1 / 3, 1 / 3], 4, [0, 5, 10, 16]),
        ([1.0], 16, [0, 65536]),
        ([0.1, 0.2], 16, [0, 21846, 65536]),
    ):
        *pmf, escape = shares
        row = tables.from_pmf(pmf, precision, escape=escape, quantization="compressai")
        assert row.tolist() == expected


def test_the_escape_has_what_a_row_lacks_to_1_and_a_frequency_of_1_at_least() -> None:
    assert tables.from_pmf([0.25, 0.5], 4).tolist() == [0, 4, 12, 16]
    assert tables.from_pmf([0.5, 0.5], 4, escape=0).tolist() == [0, 8, 15, 16]
    assert tables.from_pmf([0.5, 0.5], 4).tolist() == [0, 8, 15, 16]
    assert tables.from_pmf([], 4).tolist() == [0, 16]
    assert tables.from_counts([3, 0, 5], 3).tolist() == [0, 2, 3, 7, 8]
    assert tables.from_counts([0, 0, 0], 2).tolist() == [0, 1, 2, 3, 4]
    assert tables.from_counts([0, 0, 0], 3, escape=2).tolist() == [0, 1, 2, 3, 8]


def test_rows_of_several_lengths_come_as_a_list_or_a_matrix() -> None:
    ragged = [[0.5, 0.25], [0.125], []]
    padded = np.array([[0.5, 0.25, 9], [0.125, 9, 9], [9, 9, 9]], np.float32)
    one = [tables.from_pmf(row).tolist() for row in ragged]
    assert [row.tolist() for row in tables.from_pmf(ragged)] == one
    assert [row.tolist() for row in tables.from_pmf(padded, lengths=[2, 1, 0])] == one
    assert [row.tolist() for row in tables.from_cdf_float([[0.0, 0.5, 0.75], [0.5, 0.625], [0.3]])] == one
    assert [row.tolist() for row in tables.from_counts([[2, 1], [1], []], escape=[1, 7, 4])] == one
    made = entropyd.TabulatedConfig(tables.from_pmf(ragged), [-1, 0, 5], 1)
    assert made.table_rows == 3


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: tables.from_pmf([0.5, -0.25]), r"pmf\[1\] is -0.25; expected a finite number of at least 0"),
        (lambda: tables.from_pmf([[0.5], [0.5, np.nan]]), r"pmf\[1\]\[1\] is nan"),
        (lambda: tables.from_pmf([0.5, 0.75]), "pmf adds up to 1.25; expected at most 1"),
        (lambda: tables.from_pmf([0.5, 0.25], escape=0.5), "adds up to 0.75, with an escape of 0.5"),
        (lambda: tables.from_pmf([0.1] * 4, 2), "has 4 integers; expected at most 3 for precision 2"),
        (lambda: tables.from_pmf([0.5], 17), "precision is 17; expected an integer from 1 to 16"),
        (
            lambda: tables.from_pmf([0.5], quantization="best"),  # type: ignore[arg-type]
            "expected one of optimal, compressai",
        ),
        (lambda: tables.from_pmf([0.0], escape=0), "holds nothing but probabilities below"),
        (lambda: tables.from_pmf([1e-9], escape=0, quantization="compressai"), "below 2\\^-17"),
        (lambda: tables.from_pmf([[0.5]], lengths=[2]), "has 2 for row 0; expected an integer from 0 to 1"),
        (lambda: tables.from_pmf([[0.5]], escape=[0.1, 0.2]), "expected a number, or one for each of 1 rows"),
        (lambda: tables.from_pmf(0.5), "expected a vector of numbers"),
        (lambda: tables.from_pmf("ab"), "expected a vector of numbers"),
        (lambda: tables.from_pmf([[[0.5]]]), "expected a vector of numbers"),
        (lambda: tables.from_counts([1, -1]), r"counts\[1\] is -1"),
        (lambda: tables.from_cdf_float([0, 0.5, 0.25]), "falls from 0.5 to 0.25 at element 2"),
        (lambda: tables.from_cdf_float([0, 1.5]), "cdf ends with 1.5; expected at most 1"),
        (lambda: tables.from_cdf_float([]), "cdf is empty"),
    ],
)
def test_what_is_no_probability_is_named(call: Any, found: str) -> None:
    with pytest.raises(entropyd.InvalidConfigError, match=found):
        call()
