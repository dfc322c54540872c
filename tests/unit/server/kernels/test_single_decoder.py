"""Laws of decoding a unit alone: a good guess finds a symbol sooner, and any guess finds the same one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd_server.kernels.range_coder import Row, Status
from tests.support.coding_cases import Case, cases, decode_integers, encode_integers, tables_of

if TYPE_CHECKING:
    from entropyd_server.coding.tables import CodingTables


def misled(tables: CodingTables, seed: int) -> CodingTables:
    """The same tables, with any interval of a row as a hint that is not empty, and any reciprocals."""
    rng = np.random.default_rng(seed)
    hints, intervals = np.empty_like(tables.hints), tables.intervals.copy()
    first, last = tables.bounds.reshape(-1, 2).T
    ends = np.append(tables.rows[1:, Row.HINT_START], len(hints))
    for record, end in zip(tables.rows, ends, strict=True):
        row = slice(start := record[Row.START], start + record[Row.ESCAPE] + 1)
        parts = slice(record[Row.HINT_START], end)
        hints[parts] = rng.choice(np.flatnonzero(first[row] <= last[row]), end - record[Row.HINT_START])
    coded = intervals["reciprocal"] > 0  # 0 is the mark of an escape
    intervals["reciprocal"][coded] = rng.integers(1, 2**32, int(coded.sum()), np.uint32)
    for array in (hints, intervals):
        array.flags.writeable = False
    return dataclasses.replace(tables, hints=hints, intervals=intervals)


@settings(max_examples=100)
@given(cases(empty_intervals=True, max_symbols=100), st.data())
def test_wrong_guesses_decode_any_string_to_the_same(case: Case, data: st.DataObject) -> None:
    encoded = encode_integers(case.tables, case.row_index, case.units)[0]
    strings = [data.draw(st.binary(max_size=100) | st.sampled_from([*encoded, b""]))]
    decoded = decode_integers(case.tables, case.row_index, strings)
    seed = data.draw(st.integers(0, 2**32))
    assert decode_integers(misled(case.tables, seed), case.row_index, strings) == decoded


@pytest.mark.parametrize("precision", range(1, 17))
def test_a_row_of_as_many_intervals_as_its_precision_allows_is_restored(precision: int) -> None:
    total = 1 << precision
    tables = tables_of(precision, [([*range(total + 1)], 0)])
    rng = np.random.default_rng(precision)
    # With the last interval, which is the escape.
    unit = rng.integers(0, total, 500).tolist()
    strings, statuses, _ = encode_integers(tables, [0] * len(unit), [unit])
    assert statuses == [Status.OK]
    assert decode_integers(tables, [0] * len(unit), strings)[0] == [unit]


def test_a_row_that_says_almost_nothing_is_restored() -> None:
    # A word is due every 700 000 symbols or so; until then every symbol's rounding adds to the guess's error.
    tables = tables_of(16, [([0, 65535, 65536], 3)])
    unit = [3] * 200_000
    unit[150_000] = 4
    strings, _, _ = encode_integers(tables, [0] * len(unit), [unit])
    assert decode_integers(tables, [0] * len(unit), strings)[0] == [unit]


@pytest.mark.parametrize("intervals", [256, 257])
def test_a_row_is_restored_with_hints_of_either_width(intervals: int) -> None:
    tables = tables_of(12, [([*range(intervals), 4096], -7)])
    assert tables.hints.dtype == (np.uint8 if intervals == 256 else np.uint16)
    unit = [*range(-7, intervals - 8), 10_000, -10_000]
    strings, _, _ = encode_integers(tables, [0] * len(unit), [unit])
    assert decode_integers(tables, [0] * len(unit), strings)[0] == [unit]


def test_narrow_intervals_among_wide_ones_are_restored() -> None:
    # Each narrow one leaves little of size, so that rounding makes the carried inverse wrong by up to half.
    tables = tables_of(16, [([0, 30_000, 30_001, 30_003, 65_000, 65_001, 65_536], 0)])
    rng = np.random.default_rng(0)
    unit = rng.choice(5, 20_000, p=[0.1, 0.3, 0.3, 0.1, 0.2]).tolist()
    strings, _, _ = encode_integers(tables, [0] * len(unit), [unit])
    assert decode_integers(tables, [0] * len(unit), strings)[0] == [unit]
