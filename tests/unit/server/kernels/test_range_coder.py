"""Laws of the kernels: they are the reference coder, on bytes, and they end for every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropyd_server.kernels.elements import BLOCK_SYMBOLS
from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.range_encoder import (
    MAX_SYMBOL_BYTES,
    PAYLOAD_GUARD_BYTES,
    encode_units,
    encoded_capacity,
)
from tests.support import reference_coder
from tests.support.coding_cases import (
    FLOAT64,
    MAX_MAGNITUDE,
    NO_OFFSETS,
    Case,
    cases,
    decode_integers,
    encode_integers,
    encode_values,
    tables_of,
)

UNIFORM_16 = ([*range(2**16 + 1)], 0)
HALVES = ([0, 1, 2], 0)


@given(cases())
def test_the_kernel_writes_the_bytes_of_the_reference_coder(case: Case) -> None:
    strings, statuses, positions = encode_integers(case.tables, case.row_index, case.units)
    assert strings == [reference_coder.encode(unit, case.coding_rows, case.precision) for unit in case.units]
    assert set(statuses) <= {Status.OK}
    assert set(positions) <= {-1}


@given(cases())
def test_decoding_an_encoded_unit_restores_its_symbols(case: Case) -> None:
    strings, _, _ = encode_integers(case.tables, case.row_index, case.units)
    integers, statuses, positions = decode_integers(case.tables, case.row_index, strings)
    assert integers == case.units
    assert set(statuses) <= {Status.OK}
    assert set(positions) <= {-1}


@given(cases(empty_intervals=True))
def test_a_symbol_of_probability_zero_fails_its_unit_and_no_other(case: Case) -> None:
    strings, statuses, positions = encode_integers(case.tables, case.row_index, case.units)
    for unit, string, status, position in zip(case.units, strings, statuses, positions, strict=True):
        try:
            expected = reference_coder.encode(unit, case.coding_rows, case.precision)
        except reference_coder.UncodableError:
            assert (string, status) == (b"", Status.ZERO_PROBABILITY)
            reference_coder.encode(unit[:position], case.coding_rows[:position], case.precision)
            with pytest.raises(reference_coder.UncodableError):
                reference_coder.encode([unit[position]], [case.coding_rows[position]], case.precision)
        else:
            assert (string, status, position) == (expected, Status.OK, -1)


def reference_decode(case: Case, string: bytes, *, sanity_check: bool) -> list[int] | None:
    try:
        return reference_coder.decode(string, case.coding_rows, case.precision, sanity_check=sanity_check)
    except reference_coder.CorruptError:
        return None


hostile_strings = (
    st.binary(max_size=80)
    | st.integers(0, 80).map(lambda length: b"\xff" * length)
    | st.integers(0, 80).map(lambda length: b"\x00" * length)
    | st.integers(0, 80).map(lambda length: b"\xff\xff" + b"\x00" * length)
)


@given(cases(empty_intervals=True), st.lists(hostile_strings, max_size=3), st.booleans())
@example(
    case=Case(12, [([0, 4095, 4096], 0)], [0], []),
    strings=[b"\xff\xff\x00\x00", b"\xff\xff"],
    sanity_check=False,
)
def test_any_string_decodes_as_with_the_reference_coder(
    case: Case, strings: list[bytes], sanity_check: bool
) -> None:
    integers, statuses, positions = decode_integers(
        case.tables, case.row_index, strings, sanity_check=sanity_check
    )
    assert integers == [reference_decode(case, string, sanity_check=sanity_check) for string in strings]
    for status, position in zip(statuses, positions, strict=True):
        assert (position >= 0) == (status == Status.ESCAPE_TOO_LONG)


@given(cases(), st.data())
def test_damaged_strings_decode_as_with_the_reference_coder(case: Case, data: st.DataObject) -> None:
    strings, _, _ = encode_integers(case.tables, case.row_index, case.units)
    for string in strings:
        cut = string[: data.draw(st.integers(0, len(string)))]
        longer = string + data.draw(st.binary(max_size=3))
        changed = bytearray(string)
        if changed:
            changed[data.draw(st.integers(0, len(string) - 1))] ^= data.draw(st.integers(1, 255))
        damaged = [cut, longer, bytes(changed)]
        integers, _, _ = decode_integers(case.tables, case.row_index, damaged)
        assert integers == [reference_decode(case, string, sanity_check=True) for string in damaged]


@pytest.mark.parametrize("words", [1, 2, 5, 300])
@pytest.mark.parametrize("rows", [[UNIFORM_16], [HALVES], [([0, 1, 5, 9, 16], -2)]])
def test_carries_walk_through_chains_of_any_length(words: int, rows: list[tuple[list[int], int]]) -> None:
    # The symbols of a string 1233 FFFF FFFF ... keep the interval across a carry for as long as it lasts;
    # the symbols after them decide whether it becomes 1233 FFFF ... or 1234 0000 ...
    precision = rows[0][0][-1].bit_length() - 1
    near_carry = b"\x12\x33" + b"\xff\xff" * words
    decoder = reference_coder.Decoder(near_carry + b"\x80" * 8)
    head = []
    while decoder.state.words < words + 1:
        head.append(decoder.integer(rows[0], precision))
    last = len(rows[0][0]) - 3
    tails = [[], [0] * 9, [last] * 9, [0, last, 0], [last, 0, last]]
    for tail in tails:
        for cut in range(3):
            unit = head[: len(head) - cut] + [symbol + rows[0][1] for symbol in tail]
            row_index = [0] * len(unit)
            strings, _, _ = encode_integers(tables_of(precision, rows), row_index, [unit])
            assert strings == [reference_coder.encode(unit, rows * len(unit), precision)]
            assert decode_integers(tables_of(precision, rows), row_index, strings)[0] == [unit]


@pytest.mark.parametrize("bits", range(30))
@pytest.mark.parametrize("sign", [-1, 1])
def test_escapes_of_every_magnitude_are_restored(bits: int, sign: int) -> None:
    tables = tables_of(12, [([0, 4000, 4096], 7)])
    unit = [7 + sign * (1 << bits), 7, 7 + sign * ((2 << bits) - 1)]
    strings, statuses, _ = encode_integers(tables, [0] * 3, [unit])
    assert statuses == [Status.OK]
    assert strings == [reference_coder.encode(unit, [([0, 4000, 4096], 7)] * 3, 12)]
    assert decode_integers(tables, [0] * 3, strings)[0] == [unit]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (np.nan, Status.NOT_FINITE),
        (np.inf, Status.NOT_FINITE),
        (-np.inf, Status.NOT_FINITE),
        (1e300, Status.OUT_OF_RANGE),
        (-(2.0**31), Status.OUT_OF_RANGE),
        (MAX_MAGNITUDE + 1.0, Status.OUT_OF_RANGE),
        (-MAX_MAGNITUDE - 1.0, Status.OUT_OF_RANGE),
        (MAX_MAGNITUDE, Status.OK),
        (-MAX_MAGNITUDE, Status.OK),
    ],
)
def test_a_value_out_of_reach_fails_its_unit_and_no_other(value: float, status: Status) -> None:
    tables = tables_of(12, [([0, 1, 4096], 0)])
    alone, _, _ = encode_values(tables, [0] * 3, np.array([[0.0, 1.0, -5.0]]))
    strings, statuses, positions = encode_values(
        tables,
        [0] * 3,
        np.array([[0.0, 1.0, -5.0], [0.0, value, np.nan if status else 0.0], [0.0, 1.0, -5.0]]),
    )
    assert statuses == [Status.OK, status, Status.OK]
    assert positions == [-1, 1 if status else -1, -1]
    assert [strings[0], strings[2]] == alone * 2
    assert bool(strings[1]) == (status == Status.OK)


def test_rounding_takes_ties_to_even() -> None:
    tables = tables_of(8, [([*range(257)], -100)])
    values = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994]])
    strings, _, _ = encode_values(tables, [0] * 7, values)
    assert decode_integers(tables, [0] * 7, strings)[0] == [[-2, -2, 0, 0, 2, 2, 0]]


@settings(max_examples=30)
@given(
    st.integers(0, 3), st.integers(0, 3 * BLOCK_SYMBOLS), st.integers(0, 4 * MAX_SYMBOL_BYTES * BLOCK_SYMBOLS)
)
def test_a_short_payload_stops_encoding_between_units(units: int, symbols: int, room: int) -> None:
    rows = [([0, 1, 65536], 0)]
    tables = tables_of(16, rows)
    integer = -MAX_MAGNITUDE
    expected = reference_coder.encode([integer] * symbols, rows * symbols, 16)
    assert len(expected) <= MAX_SYMBOL_BYTES * symbols + 2
    values = np.full((units, symbols), float(integer))
    lengths, statuses = np.zeros(units, np.uint32), np.zeros(units, np.uint8)
    positions = np.zeros(units, np.int64)
    unit, capacity, written, escaped = 0, room, b"", 0
    for _ in range(units + 1):
        # One byte more than the kernel may know of, to see that it stays inside.
        payload = np.full(capacity + 1, 0xA5, np.uint8)
        unit, end, escapes = encode_units(
            kernel_bytes(values),
            FLOAT64,
            symbols,
            NO_OFFSETS,
            kernel_input(np.zeros(symbols, np.int32)),
            0,
            tables.rows,
            tables.bounds,
            tables.precision,
            unit,
            payload[:capacity],
            lengths,
            statuses,
            positions,
        )
        assert payload[capacity] == 0xA5
        written += payload[PAYLOAD_GUARD_BYTES:end].tobytes()
        assert written == expected * unit
        escaped += escapes
        assert escaped == symbols * unit
        if unit == units:
            break
        capacity = encoded_capacity(symbols)
    assert written == expected * units


def test_a_unit_of_a_million_symbols_is_restored() -> None:
    rows = [([0, 1, 3, 200, 3000, 4000, 4096], -2), ([0, 4095, 4096], 0)]
    tables = tables_of(12, rows)
    rng = np.random.default_rng(0)
    row_index = rng.integers(0, 2, 10**6).tolist()
    unit = rng.integers(-4, 6, 10**6).tolist()
    strings, statuses, _ = encode_integers(tables, row_index, [unit])
    assert statuses == [Status.OK]
    assert decode_integers(tables, row_index, strings)[0] == [unit]
