"""Laws of the modelled cost: it is what coding data of the prior costs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables, row_bits


def tables_of(*rows: list[int], precision: int) -> CodingTables:
    cdf = [value for row in rows for value in (-precision, *row)]
    return CodingTables.parse(cdf, [0] * len(rows))


def entropy(row: list[int]) -> float:
    """By the definition, one interval after the other; an escape drags two more bits along."""
    total = row[-1]
    widths = [upper - lower for lower, upper in pairwise(row) if lower < total]
    bits = sum(-width / total * math.log2(width / total) for width in widths if width)
    return bits + 2 * widths[-1] / total


def test_a_row_costs_its_entropy_and_the_shortest_escape() -> None:
    rows = [[0, 8, 12, 16], [0, 16], [0, 1, 1, 15, 16, 16, 16], [0, 16, 16]]
    expected = [entropy(row) for row in rows]
    np.testing.assert_allclose(row_bits(tables_of(*rows, precision=4)), expected, rtol=1e-12)


@given(st.lists(st.lists(st.integers(0, 256), max_size=12), min_size=1, max_size=5))
def test_any_rows_cost_their_entropies(inner: list[list[int]]) -> None:
    rows = [[0, *sorted(values), 256] for values in inner]
    expected = [entropy(row) for row in rows]
    np.testing.assert_allclose(row_bits(tables_of(*rows, precision=8)), expected, rtol=1e-9, atol=1e-12)


def test_data_of_the_prior_cost_what_a_plan_says() -> None:
    rows = [[0, 20, 90, 200, 255, 256], [0, 100, 156, 255, 256]]
    codec = UniversalBatchedCodec(
        model_id="m",
        tables=tables_of(*rows, precision=8),
        prior_shape=(2,),
        coding_rank=2,
        bottleneck_dtype="float32",
        num_noise_levels=1,
    )
    unit_rows = codec.rows((50_000,))
    rng = np.random.default_rng(0)
    drawn = [np.searchsorted(row, rng.integers(0, row[-2], 50_000), side="right") - 1 for row in rows]
    values = np.stack(drawn, axis=1).astype(np.float32).reshape(1, -1)
    actual_bits = 8 * len(codec.encode(values, unit_rows).payload) / unit_rows.symbols
    assert abs(actual_bits - unit_rows.modelled_bits) < 0.05
    far_bits = 8 * len(codec.encode(np.full_like(values, 900), unit_rows).payload) / unit_rows.symbols
    assert far_bits > unit_rows.modelled_bits + 10


def test_a_unit_without_symbols_is_expected_to_cost_nothing() -> None:
    codec = UniversalBatchedCodec(
        model_id="m",
        tables=tables_of([0, 16], precision=4),
        prior_shape=(),
        coding_rank=1,
        bottleneck_dtype="float32",
        num_noise_levels=1,
    )
    assert codec.rows((0,)).modelled_bits == 0.0
