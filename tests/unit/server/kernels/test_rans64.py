"""Laws of the rANS kernels: they are the reference coder, on bytes, and they end for every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropyd_server.coding.rans64_tables import Rans64Tables
from entropyd_server.kernels.intrinsics import high_product
from entropyd_server.kernels.jit import at, kernel
from entropyd_server.kernels.range_coder import Status
from tests.support import reference_rans
from tests.support.coding_cases import MAX_MAGNITUDE, Case, integers_of, table_rows, tables_of
from tests.support.rans_cases import decode_rans as decode
from tests.support.rans_cases import encode_rans as encode
from tests.support.reference_coder import CorruptError, UncodableError

HALVES = ([0, 2**15, 2**16], 0)
ESCAPE_ALONE = ([0, 2**16], 5)
THIRDS = ([0, 20000, 40000, 2**16], -1)


@st.composite
def cases(draw: st.DrawFn, *, empty_intervals: bool = False) -> Case:
    row = table_rows(16, empty_intervals=empty_intervals) | st.sampled_from([ESCAPE_ALONE, HALVES])
    rows = draw(st.lists(row, min_size=1, max_size=4))
    row_index = draw(st.lists(st.integers(0, len(rows) - 1), max_size=40))
    unit = st.tuples(*(integers_of(rows[index]) for index in row_index)).map(list)
    return Case(16, rows, row_index, draw(st.lists(unit, max_size=6)))


@settings(max_examples=60)
@given(cases())
def test_the_kernel_writes_the_bytes_of_the_reference_coder(case: Case) -> None:
    strings, statuses, positions = encode(case.tables, case.row_index, case.units)
    assert strings == [reference_rans.encode(unit, case.coding_rows) for unit in case.units]
    assert set(statuses) <= {Status.OK}
    assert set(positions) <= {-1}


@settings(max_examples=60)
@given(cases())
def test_decoding_an_encoded_unit_restores_its_symbols(case: Case) -> None:
    strings, _, _ = encode(case.tables, case.row_index, case.units)
    integers, statuses, positions = decode(case.tables, case.row_index, strings)
    assert integers == case.units
    assert set(statuses) <= {Status.OK}
    assert set(positions) <= {-1}


@settings(max_examples=60)
@given(cases(empty_intervals=True))
def test_a_symbol_of_probability_zero_fails_its_unit_and_no_other(case: Case) -> None:
    strings, statuses, positions = encode(case.tables, case.row_index, case.units)
    for unit, string, status, position in zip(case.units, strings, statuses, positions, strict=True):
        try:
            expected = reference_rans.encode(unit, case.coding_rows)
        except UncodableError:
            assert (string, status) == (b"", Status.ZERO_PROBABILITY)
            reference_rans.encode(unit[:position], case.coding_rows[:position])
            with pytest.raises(UncodableError):
                reference_rans.encode([unit[position]], [case.coding_rows[position]])
        else:
            assert (string, status, position) == (expected, Status.OK, -1)


@settings(max_examples=100)
@given(case=cases(empty_intervals=True), data=st.data())
def test_any_string_is_refused_or_is_what_its_symbols_encode_to(case: Case, data: st.DataObject) -> None:
    states = st.integers(2**31, 2**63 - 1).map(lambda state: state.to_bytes(8, "little"))
    hostile = st.binary(max_size=40) | st.tuples(states, st.binary(max_size=40)).map(b"".join)
    strings = data.draw(st.lists(hostile, max_size=6))
    integers, statuses, _ = decode(case.tables, case.row_index, strings)
    for string, unit, status in zip(strings, integers, statuses, strict=True):
        try:
            expected = reference_rans.decode(string, case.coding_rows)
        except CorruptError:
            assert status != Status.OK
        else:
            assert (unit, status) == (expected, Status.OK)
            assert reference_rans.encode(expected, case.coding_rows) == string


@given(state=st.integers(2**31, 2**63 - 1), width=st.integers(1, 2**16))
@example(state=2**63 - 1, width=2**16)
@example(state=2**48 - 1, width=2)
def test_reciprocals_divide_exactly(state: int, width: int) -> None:
    lower = 2**16 - width
    bounds = np.array([0, lower - 1, lower, 2**16 - 1] if lower else [0, 2**16 - 1], np.uint16)
    record = np.array([[0, len(bounds) // 2 - 1, 0, 0, 63, 0, 0, 0]], np.int32)
    divider = Rans64Tables.of(record, bounds).dividers[-1]
    state %= width << 47  # what needs no word first
    complement = 2**16 - width
    quotient = state * int(divider["reciprocal"]) >> 64 >> int(divider["shift"])
    assert int(divider["complement"]) == complement
    expected = (state // width << 16) + lower + state % width
    assert state == 0 or state + int(divider["bias"]) + quotient * complement == expected


@kernel
def _compiled_high_product(first: int, second: int) -> int:
    return high_product(first, second)


@given(first=st.integers(0, 2**64 - 1), second=st.integers(0, 2**64 - 1))
def test_the_high_product_is_that_of_unbounded_integers(first: int, second: int) -> None:
    assert _compiled_high_product(at(first), at(second)) == first * second >> 64
    assert int(vars(high_product)["__wrapped__"](at(first), at(second))) == first * second >> 64


def test_a_unit_without_symbols_is_the_first_state_alone() -> None:
    strings, statuses, _ = encode(tables_of(16, [HALVES]), [], [[], []])
    assert strings == [bytes.fromhex("0000008000000000")] * 2
    assert set(statuses) == {Status.OK}
    assert decode(tables_of(16, [HALVES]), [], [*strings, b""])[1] == [
        Status.OK,
        Status.OK,
        Status.TRUNCATED,
    ]


def test_an_escape_alone_costs_its_digits() -> None:
    tables = tables_of(16, [ESCAPE_ALONE])
    strings, _, _ = encode(tables, [0] * 3, [[5, 4, 6]])
    assert strings == [reference_rans.encode([5, 4, 6], [ESCAPE_ALONE] * 3)]
    assert decode(tables, [0] * 3, strings)[0] == [[5, 4, 6]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_cannot_be_encoded_fails_its_unit_at_its_first_element(dtype: str) -> None:
    tables = tables_of(16, [THIRDS])
    far = float(2**30)
    units = [
        [0.0, 1.0],
        [np.nan, np.inf],
        [0.0, -np.inf],
        [far + 128, 0.0],
        [-far - 128, np.nan],
        [1.0, -1.0],
    ]
    strings, statuses, positions = encode(tables, [0, 0], units, dtype)
    assert statuses == [
        Status.OK,
        Status.NOT_FINITE,
        Status.NOT_FINITE,
        Status.OUT_OF_RANGE,
        Status.OUT_OF_RANGE,
        Status.OK,
    ]
    assert positions == [-1, 0, 1, 0, 0, -1]
    assert [strings[0], strings[5]] == [
        reference_rans.encode([0, 1], [THIRDS] * 2),
        reference_rans.encode([1, -1], [THIRDS] * 2),
    ]
    assert strings[1:5] == [b""] * 4


def test_the_largest_escapes_are_coded_and_the_next_are_not() -> None:
    tables = tables_of(16, [THIRDS])
    below, above = THIRDS[1] - MAX_MAGNITUDE, THIRDS[1] + 1 + MAX_MAGNITUDE
    strings, statuses, _ = encode(tables, [0, 0], [[below, above], [below - 1, 0], [0, above + 1]])
    assert statuses == [Status.OK, Status.OUT_OF_RANGE, Status.OUT_OF_RANGE]
    assert decode(tables, [0, 0], strings[:1])[0] == [[below, above]]


@pytest.mark.parametrize(
    ("damage", "status", "position"),
    [
        (lambda string: string[:7], Status.TRUNCATED, 0),
        (lambda string: string[:-1], Status.TRUNCATED, None),
        (lambda string: string + b"\0", Status.NOT_AT_END, -1),
        (lambda string: string + bytes(4), Status.NOT_AT_END, -1),
        (lambda string: bytes(8) + string[8:], Status.STATE_OUT_OF_RANGE, 0),
        (lambda string: string[:7] + b"\x80" + string[8:], Status.STATE_OUT_OF_RANGE, 0),
    ],
)
def test_damage_is_named(damage: object, status: Status, position: int | None) -> None:
    tables = tables_of(16, [THIRDS])
    (string,), _, _ = encode(tables, [0] * 60, [[1, 0, -1] * 20])
    assert callable(damage)
    (integers,), found, (where,) = decode(tables, [0] * 60, [damage(string)])
    assert (integers, found) == (None, [status])
    assert position is None or where == position


@pytest.mark.parametrize("digits", [[9], [15] * 12, [2, 1, 0], [8, *[15] * 7, 7]])
def test_escapes_that_no_encoder_writes_are_refused(digits: list[int]) -> None:
    state, words = 2**31, b""
    for digit in reversed(digits):
        if state >= 2**59:
            words = (state % 2**32).to_bytes(4, "little") + words
            state >>= 32
        state = state << 4 | digit
    tables = tables_of(16, [ESCAPE_ALONE])
    _, statuses, positions = decode(tables, [0], [state.to_bytes(8, "little") + words])
    assert (statuses, positions) == ([Status.ESCAPE_TOO_LONG], [0])


def test_units_of_many_escapes_follow_one_another_in_several_payloads() -> None:
    tables = tables_of(16, [([0, 1, 2, 2**16 - 1, 2**16], 0)])
    rng = np.random.default_rng(0)
    units = rng.integers(2**27, 2**29, (7, 3000)).tolist()
    strings, statuses, _ = encode(tables, [0] * 3000, units)
    assert set(statuses) == {Status.OK}
    assert decode(tables, [0] * 3000, strings)[0] == units
