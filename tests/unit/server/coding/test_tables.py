"""Laws of coding tables: legal ones are kept as TFC reads them, others are refused by row and value."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.table_checks import MAX_ROW_INTERVALS
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.range_coder import Row
from tests.support.coding_cases import table_rows, tables_of

LEGAL = [-4, 0, 3, 16, -4, 0, 1, 2, 16]


def test_legal_tables_are_kept_as_they_are_and_cannot_be_changed() -> None:
    tables = CodingTables.parse(LEGAL, [-1, 5])
    assert tables.cdf.tolist() == LEGAL
    assert tables.cdf_offset.tolist() == [-1, 5]
    assert tables.cdf.dtype == tables.cdf_offset.dtype == np.int32
    assert tables.precision == 4
    derived: list[npt.NDArray[Any]]
    derived = [tables.rows, tables.bounds, tables.hints, tables.intervals, tables.near]
    arrays = [tables.cdf, tables.cdf_offset, *derived]
    assert tables.nbytes == sum(array.nbytes for array in arrays)
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_tables_do_not_share_memory_with_what_they_were_parsed_from() -> None:
    cdf = np.array(LEGAL, np.int32)
    tables = CodingTables.parse(cdf, np.array([0, 0], np.int32))
    cdf[2] = 4
    assert tables.cdf.tolist() == LEGAL


def test_the_digest_is_the_sha256_of_the_documented_layout() -> None:
    layout = (
        b"entropyd tables\x01"
        + (2).to_bytes(4, "little")
        + (9).to_bytes(8, "little")
        + b"".join(value.to_bytes(4, "little", signed=True) for value in [*LEGAL, -1, 5])
    )
    digest = CodingTables.parse(np.array(LEGAL, np.int64), np.array([-1, 5], np.int16)).digest
    assert digest == hashlib.sha256(layout).digest()
    assert digest.hex() == "68f2f8261d45aee928cb4af3cab9fd748b8ceddb3e81a693477709bc0f78e65b"


def test_copies_of_the_total_belong_to_no_interval() -> None:
    tables = CodingTables.parse([-4, 0, 3, 16, 16, 16, -4, 0, 16], [0, 0])
    assert tables.rows[:, Row.ESCAPE].tolist() == [1, 0]
    assert tables.rows[:, Row.START].tolist() == [0, 2]
    assert tables.bounds.tolist() == [0, 2, 3, 15, 0, 15]


@given(
    st.integers(1, 7).flatmap(lambda p: st.lists(table_rows(p, empty_intervals=True), min_size=1, max_size=5))
)
def test_a_hint_is_the_interval_that_holds_most_of_its_part(rows: list[tuple[list[int], int]]) -> None:
    tables = tables_of(rows[0][0][-1].bit_length() - 1, rows)
    ends = np.append(tables.rows[1:, Row.HINT_START], len(tables.hints))
    for (cumulative, cdf_offset), record, end in zip(rows, tables.rows, ends, strict=True):
        assert record[Row.ESCAPE] == len(cumulative) - 2
        assert record[Row.CDF_OFFSET] == cdf_offset
        hints = tables.hints[record[Row.HINT_START] : end].tolist()
        assert len(hints) == 1 << (64 - int(record[Row.HINT_SHIFT]))
        width = (1 << tables.precision) // len(hints)
        for part, hint in enumerate(hints):
            first, last = part * width, part * width + width
            shares = [min(upper, last) - max(lower, first) for lower, upper in itertools.pairwise(cumulative)]
            assert shares[hint] == max(shares)


@given(
    st.integers(1, 16).flatmap(
        lambda p: st.lists(table_rows(p, empty_intervals=True), min_size=1, max_size=5)
    )
)
def test_intervals_are_the_row_in_16_bits_and_its_lower_bounds_do_not_fall(
    rows: list[tuple[list[int], int]],
) -> None:
    tables = tables_of(rows[0][0][-1].bit_length() - 1, rows)
    unit = 1 << (16 - tables.precision)
    for (cumulative, _), record in zip(rows, tables.rows, strict=True):
        intervals = tables.intervals[record[Row.START] :][: len(cumulative) - 1].tolist()
        assert 0 <= record[Row.LIKELY] < len(intervals)
        for (lower, upper), (begin, last, reciprocal) in zip(
            itertools.pairwise(cumulative), intervals[:-1], strict=False
        ):
            assert begin == lower * unit
            assert last == max(upper * unit - 1, 0)
            if lower < upper:
                assert reciprocal == (2**32 - 1) // ((upper - lower) * unit)
        assert intervals[-1] == (cumulative[-2] * unit, 2**16 - 1, 0)


@pytest.mark.parametrize(
    ("cdf", "cdf_offset", "problem"),
    [
        (np.empty(0, np.int32), [], "cdf: holds no rows"),
        ([4, 0, 3, 16], [0], "cdf: row 0 begins with 4; expected -precision (rows without an escape symbol"),
        ([-4, 0, 16, 4, 0, 16], [0, 0], "cdf: row 0 falls from 16 to 4 at element 3"),
        ([0, 0, 16], [0], "cdf: row 0 begins with 0"),
        ([-17, 0, 2**17], [0], "cdf: row 0 has precision 17; expected 1 to 16"),
        ([-(2**31), 0, 16], [0], "cdf: row 0 has precision 2147483648; expected 1 to 16"),
        ([-4, 0, 16, -5, 0, 32], [0, 0], "cdf: row 1 has precision 5 and row 0 has 4"),
        ([-4, 0, 16, -4, 16], [0, 0], "cdf: row 1 has 2 elements"),
        ([-4, 1, 16], [0], "cdf: row 0 begins its probabilities with 1; expected 0"),
        ([-4, 0, 9, 8, 16], [0], "cdf: row 0 falls from 9 to 8 at element 3"),
        ([-4, 0, 16, -4, 0, 15], [0, 0], "cdf: row 1 ends with 15; expected 2^precision = 16"),
        ([-4, 0, 17], [0], "cdf: row 0 ends with 17; expected 2^precision = 16"),
        ([-4, 0, 17, 16], [0], "cdf: row 0 falls from 17 to 16"),
        (
            [-4, *[0] * (MAX_ROW_INTERVALS + 1), 16],
            [0],
            "cdf: row 0 has 65537 intervals; expected at most 65536",
        ),
        (LEGAL, [0], "cdf_offset: has length 1; expected 2, one per row of cdf"),
        (LEGAL, [0, 2**29 + 1], "cdf_offset: row 1 has 536870913; expected at most 2^29 in magnitude"),
        (LEGAL, [-(2**29) - 1, 0], "cdf_offset: row 0 has -536870913; expected at most 2^29 in magnitude"),
        (LEGAL, [[0, 0]], "cdf_offset: has rank 2; expected 1"),
        (np.array(LEGAL, np.float32), [0, 0], "cdf: has dtype float32; expected integers that fit int32"),
        (np.array(LEGAL, np.bool_), [0, 0], "cdf: has dtype bool"),
        ([-4, 0, 2**31], [0], "cdf: element 2 is 2147483648; expected integers that fit int32"),
        (LEGAL, [0, -(2**31) - 1], "cdf_offset: element 1 is -2147483649"),
        (LEGAL, np.array([0, 2**63], np.uint64), "cdf_offset: element 1 is 9223372036854775808"),
    ],
)
def test_illegal_tables_are_refused_by_row_and_value(cdf: Any, cdf_offset: Any, problem: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        CodingTables.parse(cdf, cdf_offset)
    field, _, found = problem.partition(": ")
    assert any(v.field == field and v.description.startswith(found) for v in caught.value.violations)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        CodingTables.parse([-4, 1, 16, -4, 0, 9, 8, 15], [0.5, 0.5])
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["cdf_offset", "cdf", "cdf", "cdf"]


@given(st.lists(st.integers(-17, 40), max_size=12), st.lists(st.integers(-2, 2), max_size=3))
def test_any_integers_are_parsed_or_refused(cdf: list[int], cdf_offset: list[int]) -> None:
    integers = np.array(cdf, np.int64), np.array(cdf_offset, np.int64)
    with contextlib.suppress(InvalidConfigError):
        assert CodingTables.parse(*integers).cdf.tolist() == cdf
