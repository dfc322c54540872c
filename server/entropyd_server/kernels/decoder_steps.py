"""Steps that decoders share: prefetching, reading and appending words, quotients, escapes, the end.

`kernels.range_coder` describes the state. Invariant: a step ends within the bound of `kernels.range_decoder`,
whatever the bytes are.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd_server.kernels.intrinsics import long_quotient, prefetch
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import MAX_GAMMA_BITS, ROW_FIELDS, WORD_SIZE, Row, Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Hints, Int32s, Records, Uint8s, Uint16s

_LOW_32 = (1 << 32) - 1
# How early the tables of a symbol are prefetched, and the record that says where they are.
_TABLES_AHEAD = 8
_RECORD_AHEAD = 24
# Cache lines of hints and of likely intervals that are prefetched; most rows have no more.
_HINT_LINES = (0, 1, 2)
_INTERVAL_LINES = (0, 1, 2, 3)


@inlined
def fetch_ahead(
    row_index: Int32s, symbol: int, records: Int32s, hints: Hints, table: Records | Uint16s, width: int
) -> None:
    """Prefetches what the symbols soon after this one need: records, hints and likely intervals.

    `table` has `width` elements per interval.
    """
    latest = len(row_index) - 1
    prefetch(records, ROW_FIELDS * int64(row_index[at(min(symbol + _RECORD_AHEAD, latest))]), 0)
    row = ROW_FIELDS * int64(row_index[at(min(symbol + _TABLES_AHEAD, latest))])
    hint = int64(records[at(row + Row.HINT_START)])
    likely = width * (int64(records[at(row + Row.START)]) + int64(records[at(row + Row.LIKELY)]))
    for line in _HINT_LINES:
        prefetch(hints, hint, line)
    for line in _INTERVAL_LINES:
        prefetch(table, likely, line)


@inlined
def load_word(payload: Uint8s, position: int, end: int) -> int:
    """Loads the 16 bits at `position` of a string that ends at `end`, zeros behind it."""
    if position + 1 < end:
        return (int64(payload[at(position)]) << 8) | int64(payload[at(position + 1)])
    if position < end:
        return int64(payload[at(position)]) << 8
    return int64(0)


@inlined
def quotient(ahead: int, size: int, precision: int) -> int:
    """Computes the cumulative probability q."""
    return long_quotient(ahead << precision, (1 << precision) - 1, size)


@inlined
def append_word(payload: Uint8s, position: int, end: int, ahead: int, size: int) -> tuple[int, int, int, int]:
    """Appends a word if it is due; returns position, ahead, size, and the shift, 0 or 16."""
    word = load_word(payload, position, end)
    # Whether a word is due cannot be predicted, so these are masks rather than a branch.
    due = (size - (WORD_SIZE + 1)) >> 63
    shift = due & 16
    return position + (due & 2), (ahead << shift) | (word & due), size << shift, shift


@inlined
def decode_bit(payload: Uint8s, position: int, end: int, ahead: int, size: int) -> tuple[int, int, int, int]:
    """Decodes one bit of probability 1/2."""
    half = size >> 1
    bit = int64(ahead >= half)
    if bit:
        ahead, half = ahead - half, size - half
    position, ahead, size, _ = append_word(payload, position, end, ahead, half)
    return position, ahead, size, bit


@kernel
def decode_escape(
    payload: Uint8s, position: int, end: int, ahead: int, size: int
) -> tuple[int, int, int, int]:
    """Decodes an Elias gamma code and a sign to a signed magnitude; 0 for a code that no encoder writes."""
    zeros = 0
    bit = 0
    while zeros < MAX_GAMMA_BITS:
        position, ahead, size, bit = decode_bit(payload, position, end, ahead, size)
        if bit:
            break
        zeros += 1
    if zeros == MAX_GAMMA_BITS:
        return position, ahead, size, int64(0)
    magnitude = int64(1)
    for _ in range(zeros):
        position, ahead, size, bit = decode_bit(payload, position, end, ahead, size)
        magnitude = (magnitude << 1) | bit
    position, ahead, size, sign = decode_bit(payload, position, end, ahead, size)
    return position, ahead, size, -magnitude if sign else magnitude


@inlined
def escaped_integer(magnitude: int, escape: int) -> int:
    """Returns the integer, relative to the row, that an escape stands for."""
    return magnitude if magnitude < 0 else escape - 1 + magnitude


@inlined
def end_status(payload: Uint8s, position: int, end: int, ahead: int, size: int, sanity_check: bool) -> int:
    """Returns OK or NOT_AT_END after the last symbol (`RangeDecoder::Finalize`).

    An encoder could have ended here if all bytes were read and value is the number that it picks from the
    interval.
    """
    if not sanity_check:
        return int64(Status.OK)
    value = (load_word(payload, position - 4, end) << 16) | load_word(payload, position - 2, end)
    base = (value - ahead) & _LOW_32
    upper = base + size - 1
    if base == 0 or upper > _LOW_32:
        picked = int64(0)
    else:
        shift = 24 if (base - 1) >> 24 < upper >> 24 else 16
        picked = (((base - 1) >> shift) + 1) << shift
    return int64(Status.OK if position >= end and value == picked else Status.NOT_AT_END)
