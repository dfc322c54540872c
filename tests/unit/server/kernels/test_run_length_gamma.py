"""Laws of the run-length gamma code: it is the slow model on bytes, and it ends for every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.run_length_gamma import decode_gamma_units, encode_gamma_units, gamma_capacity
from tests.support import reference_gamma
from tests.support.coding_cases import FLOAT64

LARGEST = 2**31 - 1
integers = (
    st.just(0)
    | st.integers(-9, 9)
    | st.integers(0, 30).flatmap(lambda bits: st.integers(1 << bits, (2 << bits) - 1))
    | st.sampled_from([LARGEST, -LARGEST, 2**30, -(2**16)])
)


def encode(units: list[list[float]], *, room: int | None = None) -> tuple[list[bytes], list[int], list[int]]:
    """Gives string, status and position per unit."""
    values = np.array(units, np.float64).reshape(len(units), -1)
    count, symbols = values.shape
    lengths, statuses = np.zeros(count, np.uint32), np.zeros(count, np.uint8)
    positions = np.zeros(count, np.int64)
    payload = np.full((gamma_capacity(symbols * count) if room is None else room) + 1, 0xA5, np.uint8)
    done, end = encode_gamma_units(
        kernel_bytes(values), FLOAT64, symbols, 0, payload[:-1], lengths, statuses, positions
    )
    assert payload[-1] == 0xA5
    assert done == count or room is not None
    ends = np.cumsum(lengths[:done], dtype=np.int64).tolist()
    assert end == (ends[-1] if ends else 0)
    strings = [payload[a:b].tobytes() for a, b in zip([0, *ends], ends, strict=False)]
    return strings, statuses.tolist(), positions.tolist()


def decode(strings: list[bytes], symbols: int) -> tuple[list[list[int] | None], list[int], list[int]]:
    """Gives integers (None for a unit that failed), status and position per unit."""
    lengths = np.array([len(string) for string in strings], np.uint32)
    values = np.full((len(strings), symbols), 0.5)
    statuses, positions = np.zeros(len(strings), np.uint8), np.zeros(len(strings), np.int64)
    payload = kernel_input(np.frombuffer(b"".join(strings), np.uint8))
    elements = values.reshape(-1).view(np.uint8)
    decode_gamma_units(payload, kernel_input(lengths), symbols, elements, FLOAT64, statuses, positions)
    decoded: list[list[int] | None] = []
    for unit, status in zip(values, statuses, strict=True):
        assert np.isnan(unit).all() or status == Status.OK
        decoded.append([int(value) for value in unit] if status == Status.OK else None)
    return decoded, statuses.tolist(), positions.tolist()


def reference(string: bytes, symbols: int) -> list[int] | None:
    try:
        return reference_gamma.decode(string, symbols)
    except reference_gamma.CorruptError:
        return None


@given(
    st.integers(0, 40).flatmap(
        lambda n: st.lists(st.lists(integers, min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
@example([[0] * 70000, [*[0] * 69999, 1]])
@example([[LARGEST, 0] * 300])
def test_integers_encode_to_the_bytes_of_the_model_and_are_restored(units: list[list[int]]) -> None:
    strings, statuses, positions = encode([[float(integer) for integer in unit] for unit in units])
    assert strings == [reference_gamma.encode(unit) for unit in units]
    assert set(statuses) == {Status.OK}
    assert set(positions) == {-1}
    assert decode(strings, len(units[0])) == (units, statuses, positions)


hostile = (
    st.binary(max_size=40)
    | st.tuples(st.integers(0, 9), st.binary(max_size=9)).map(lambda part: b"\0" * part[0] + part[1])
    | st.lists(integers, max_size=9).map(reference_gamma.encode)
)


@given(st.lists(hostile, min_size=1, max_size=5), st.integers(0, 40))
def test_any_string_decodes_as_with_the_model(strings: list[bytes], symbols: int) -> None:
    decoded, statuses, positions = decode(strings, symbols)
    assert decoded == [reference(string, symbols) for string in strings]
    corrupt = {Status.TRUNCATED, Status.RUN_TOO_LONG, Status.GAMMA_TOO_LONG}
    assert set(statuses) <= {Status.OK, *corrupt}
    assert all(
        (status in corrupt) == (0 <= at < symbols) for status, at in zip(statuses, positions, strict=True)
    )


@pytest.mark.parametrize(
    ("string", "symbols", "status", "position"),
    [
        (b"", 1, Status.TRUNCATED, 0),
        (reference_gamma.encode([3, 70]), 3, Status.TRUNCATED, 2),
        (reference_gamma.encode([3, 0, 0]), 2, Status.RUN_TOO_LONG, 1),
        (b"\3" + b"\0" * 3 + b"\xff" * 9, 1, Status.OK, -1),
        (b"\3" + b"\0" * 4 + b"\xff" * 9, 1, Status.GAMMA_TOO_LONG, 0),
    ],
)
def test_a_string_that_no_encoder_writes_is_named(
    string: bytes, symbols: int, status: Status, position: int
) -> None:
    good = reference_gamma.encode([1] * symbols)
    _, statuses, positions = decode([good, string, good], symbols)
    assert statuses == [Status.OK, status, Status.OK]
    assert positions == [-1, position, -1]


def test_what_follows_the_last_symbol_is_ignored_as_in_tfc() -> None:
    assert decode([reference_gamma.encode([5, 0, 7]) + b"\x12\x34"], 3)[0] == [[5, 0, 7]]
    assert decode([b"\xff\xff"], 0)[0] == [[]]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (np.nan, Status.NOT_FINITE),
        (np.inf, Status.NOT_FINITE),
        (-np.inf, Status.NOT_FINITE),
        (2.0**31, Status.OUT_OF_RANGE),
        (-(2.0**31), Status.OUT_OF_RANGE),
        (1e300, Status.OUT_OF_RANGE),
        (LARGEST, Status.OK),
        (-LARGEST, Status.OK),
    ],
)
def test_a_value_out_of_reach_fails_its_unit_and_no_other(value: float, status: Status) -> None:
    units = [[0.0, 1.0, -5.0], [0.0, value, np.nan if status else 0.0], [0.0, 1.0, -5.0]]
    strings, statuses, positions = encode(units)
    assert statuses == [Status.OK, status, Status.OK]
    assert positions == [-1, 1 if status else -1, -1]
    assert strings[0] == strings[2] == reference_gamma.encode([0, 1, -5])
    assert bool(strings[1]) == (status == Status.OK)


def test_rounding_takes_ties_to_even() -> None:
    strings, _, _ = encode([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994]])
    assert strings == [reference_gamma.encode([-2, -2, 0, 0, 2, 2, 0])]


@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 500))
def test_a_short_payload_stops_encoding_between_units(units: int, symbols: int, room: int) -> None:
    strings, _, _ = encode([[-LARGEST] * symbols] * units, room=room)
    fitting = 0
    while fitting < units and fitting * len(strings[0] if strings else b"") + gamma_capacity(symbols) <= room:
        fitting += 1
    assert strings == [reference_gamma.encode([-LARGEST] * symbols)] * fitting
