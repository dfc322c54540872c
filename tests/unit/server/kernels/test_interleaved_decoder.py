"""Laws of interleaved decoding: a unit decodes as it would alone, whatever its neighbours are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd_server.kernels.interleaved_decoder import GROUPS
from entropyd_server.kernels.range_coder import Status
from tests.support import reference_coder
from tests.support.coding_cases import (
    MAX_MAGNITUDE,
    Case,
    cases,
    decode_integers,
    encode_integers,
    integers_of,
    tables_of,
)

# A frequent interval, rare ones, empty ones, escapes; and a row of as many intervals as its bits allow.
ROWS = [([0, 4000, 4050, 4050, 4051, 4090, 4096], -1), ([*range(4097)], 7), ([0, 1, 4096], 0)]


def units_of(count: int, symbols: int) -> tuple[list[int], list[list[int]]]:
    """Units that differ in their rates: the first have frequent symbols, the last long escapes."""
    rng = np.random.default_rng(count * 1000 + symbols)
    row_index = rng.integers(0, len(ROWS), symbols)
    likely = np.array([-1, 100, -1])
    units = []
    for unit in range(count):
        integers = likely[row_index]
        rare = rng.random(symbols) < unit / max(count - 1, 1)
        integers[rare] = rng.integers(-MAX_MAGNITUDE // 2, MAX_MAGNITUDE // 2, int(rare.sum()))
        units.append(integers.tolist())
    return row_index.tolist(), units


MOST, FEWER, LEAST = GROUPS
COUNTS = (
    1,
    LEAST - 1,
    LEAST,
    FEWER,
    FEWER + 1,
    MOST - 1,
    MOST,
    MOST + 1,
    MOST + LEAST,
    MOST + FEWER,
    2 * MOST + 1,
)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("symbols", [0, 1, 7, 64, 300])
def test_any_number_of_units_of_any_rates_is_restored(count: int, symbols: int) -> None:
    row_index, units = units_of(count, symbols)
    tables = tables_of(12, ROWS)
    strings, statuses, _ = encode_integers(tables, row_index, units)
    assert set(statuses) == {Status.OK}
    coding_rows = [ROWS[index] for index in row_index]
    assert strings[-1] == reference_coder.encode(units[-1], coding_rows, 12)
    integers, statuses, positions = decode_integers(tables, row_index, strings)
    assert integers == units
    assert set(statuses) == {Status.OK}
    assert set(positions) == {-1}


@settings(max_examples=60)
@given(cases(empty_intervals=True, max_symbols=100), st.data())
def test_a_unit_among_others_decodes_as_it_does_alone(case: Case, data: st.DataObject) -> None:
    good = [
        string
        for string, status in zip(*encode_integers(case.tables, case.row_index, case.units)[:2], strict=True)
        if status == Status.OK
    ]
    hostile = st.binary(max_size=60) | st.just(b"\xff\xff") | st.just(b"") | st.sampled_from([*good, b"\0"])
    strings = data.draw(st.lists(hostile, min_size=LEAST, max_size=MOST + FEWER + 1))
    check = data.draw(st.booleans())
    together = decode_integers(case.tables, case.row_index, strings, sanity_check=check)
    alone = [decode_integers(case.tables, case.row_index, [string], sanity_check=check) for string in strings]
    assert together == tuple([part[0] for part in parts] for parts in zip(*alone, strict=True))


def test_bad_units_change_nothing_for_the_good_ones_between_them() -> None:
    row_index, units = units_of(MOST + FEWER + 1, 150)
    tables = tables_of(12, ROWS)
    strings, _, _ = encode_integers(tables, row_index, units)
    # Row 1 escapes at the top of its range, and zeros after that are an escape without an end.
    endless = next(
        string
        for string in (bytes([255, 255, 255 - head]) for head in range(256))
        if decode_integers(tables, row_index, [string], sanity_check=False)[1] == [Status.ESCAPE_TOO_LONG]
    )
    mixed = [endless if unit % 3 == 1 else string for unit, string in enumerate(strings)]
    integers, statuses, positions = decode_integers(tables, row_index, mixed)
    for unit, original in enumerate(units):
        if unit % 3 == 1:
            assert (integers[unit], statuses[unit]) == (None, Status.ESCAPE_TOO_LONG)
            assert positions[unit] >= 0
        else:
            assert (integers[unit], statuses[unit], positions[unit]) == (original, Status.OK, -1)


@settings(max_examples=100)
@given(cases(empty_intervals=True, max_symbols=0), st.integers(1, 40), st.data())
def test_units_with_rows_of_their_own_are_those_of_the_reference_coder(
    case: Case, symbols: int, data: st.DataObject
) -> None:
    one_row = st.integers(0, len(case.rows) - 1)
    row_index = data.draw(st.lists(st.lists(one_row, min_size=symbols, max_size=symbols), max_size=MOST + 2))
    units = [[data.draw(integers_of(case.rows[row])) for row in unit] for unit in row_index]
    flat = [row for unit in row_index for row in unit]
    strings, statuses, positions = encode_integers(case.tables, flat, units, unit_stride=symbols)
    for unit, string, status, position, own in zip(
        units, strings, statuses, positions, row_index, strict=True
    ):
        rows = [case.rows[row] for row in own]
        try:
            expected = reference_coder.encode(unit, rows, case.precision)
        except reference_coder.UncodableError:
            assert (string, status) == (b"", Status.ZERO_PROBABILITY)
            with pytest.raises(reference_coder.UncodableError):
                reference_coder.encode([unit[position]], [rows[position]], case.precision)
        else:
            assert (string, status, position) == (expected, Status.OK, -1)
    damaged = [data.draw(st.just(string) | st.binary(max_size=40)) for string in strings]
    together = decode_integers(case.tables, flat, damaged, unit_stride=symbols)
    alone = [
        decode_integers(case.tables, *unit) for unit in zip(row_index, ([s] for s in damaged), strict=True)
    ]
    assert together == tuple([part[0] for part in parts] for parts in zip(*alone, strict=True)) or not units
    for string, integers, own in zip(damaged, together[0], row_index, strict=True):
        rows = [case.rows[row] for row in own]
        try:
            assert integers == reference_coder.decode(string, rows, case.precision, sanity_check=True)
        except reference_coder.CorruptError:
            assert integers is None
