"""rANS decoding: bit strings to coding units.

`kernels.rans64` describes the bit stream. Invariant: for every byte string the kernel ends within the bound
below and leaves one status per coding unit; a unit that fails changes no value of another. A unit that does
not fail is one that an encoder writes as these very bytes.

Bound. A symbol takes one step for its interval and, if that is the escape, nine for its digits at the most.
The search for an interval takes as many steps as bisecting the row. Past its end a string reads as zeros.

Speed. Each symbol waits for the one before: slot, product, sum, comparison, some 14 cycles. The chains of
several units fill one another's gaps.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.elements import BLOCK_SYMBOLS, blank, fetch_elements, write_elements
from entropyd_server.kernels.intrinsics import indexed_from, prefetch
from entropyd_server.kernels.jit import at, called, inlined, int64, kernel
from entropyd_server.kernels.range_coder import ROW_FIELDS, Row, Status
from entropyd_server.kernels.rans64 import (
    DIGIT_BITS,
    FIRST_STATE,
    MAX_CODE,
    MAX_DIGITS,
    PRECISION,
    STATE_BYTES,
    WORD_BYTES,
)

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Int64s, Records, Uint8s, Uint32s

    # Position of the next word, end of the string, state, symbol at which the unit failed or -1, status.
    Lane = tuple[int, int, int, int, int]

LANES = 4
# How early the slots of a row are prefetched, and the record that says where they are.
_SLOTS_AHEAD = 8
_RECORD_AHEAD = 24
_SLOT_LINES = (0, 1, 2, 3)
_LOW = (1 << PRECISION) - 1
_DIGIT = (1 << DIGIT_BITS) - 1
_WORD = 8 * WORD_BYTES


@inlined
def _load_word(payload: Uint8s, position: int, end: int) -> int:
    """Loads the word at `position` of a string that ends at `end`; 0 behind it."""
    if position + WORD_BYTES > end:
        return int64(0)
    word = int64(0)
    for byte in range(WORD_BYTES):
        word |= int64(payload[at(position + byte)]) << (8 * byte)
    return word


@inlined
def _refill(payload: Uint8s, position: int, end: int, state: int) -> tuple[int, int]:
    """Appends a word if it is due; it is loaded in any case."""
    word = _load_word(payload, position, end)
    due = state < FIRST_STATE
    return position + (WORD_BYTES if due else 0), ((state << _WORD) | word) if due else state


@called
def _search(intervals: Records, start: int, escape: int, low: int) -> int:
    """Bisects a row for the interval that holds `low`: the last that does not begin after it."""
    found = int64(0)
    while found < escape:
        middle = (found + escape + 1) >> 1
        if int64(intervals[at(start + middle)]["lower"]) <= low:
            found = middle
        else:
            escape = middle - 1
    return found


@called
def _read_escape(payload: Uint8s, position: int, end: int, state: int) -> tuple[int, int, int]:
    """Reads the code of an escape; -1 for one that no encoder writes."""
    digits = state & _DIGIT
    position, state = _refill(payload, position, end, state >> DIGIT_BITS)
    if digits > MAX_DIGITS:
        return position, state, int64(-1)
    code = digit = int64(0)
    for place in range(digits):
        digit = state & _DIGIT
        position, state = _refill(payload, position, end, state >> DIGIT_BITS)
        code |= digit << (DIGIT_BITS * place)
    if code > MAX_CODE or (digits and digit == 0):
        return position, state, int64(-1)
    return position, state, code


@inlined
def _open(payload: Uint8s, begin: int, length: int) -> Lane:
    """Returns a lane at the beginning of a string."""
    end = begin + int64(length)
    state = _load_word(payload, begin, end) | (_load_word(payload, begin + WORD_BYTES, end) << _WORD)
    if begin + STATE_BYTES > end:
        return begin, end, int64(FIRST_STATE), int64(0), int64(Status.TRUNCATED)
    if state < FIRST_STATE:  # of 2^63 or more: negative
        return begin, end, int64(FIRST_STATE), int64(0), int64(Status.STATE_OUT_OF_RANGE)
    return begin + STATE_BYTES, end, state, int64(-1), int64(Status.OK)


@inlined
def _step(
    payload: Uint8s, lane: Lane, records: Int32s, row: int, slots: Records, intervals: Records, symbol: int
) -> tuple[Lane, int]:
    """Decodes a symbol. A lane that fails goes on with what it finds, which is discarded."""
    position, end, state, failed, status = lane
    record = ROW_FIELDS * int64(row)
    low = state & _LOW
    hint = low >> (int64(records[at(record + Row.HINT_SHIFT)]) - (64 - PRECISION))
    slot = indexed_from(slots, int64(records[at(record + Row.HINT_START)]), hint)
    high = state >> PRECISION
    index = int64(slot["index"])
    rest = low - int64(slot["lower"])
    span = int64(slot["span"])
    if at(rest) > at(span):
        start, escape = int64(records[at(record + Row.START)]), int64(records[at(record + Row.ESCAPE)])
        index += 1 if rest > 0 else -1
        interval = intervals[at(start + index)]
        lower, last = int64(interval["lower"]), int64(interval["last"])
        if low < lower or low > last:
            index = _search(intervals, start, escape, low)
            interval = intervals[at(start + index)]
            lower, last = int64(interval["lower"]), int64(interval["last"])
        rest, span = low - lower, last - lower
    position, state = _refill(payload, position, end, span * high + (high + rest))
    if index == int64(records[at(record + Row.ESCAPE)]):
        position, state, code = _read_escape(payload, position, end, state)
        if code < 0 and failed < 0:
            failed, status = symbol, int64(Status.ESCAPE_TOO_LONG)
        index = -((code + 1) >> 1) if code & 1 else index + (code >> 1)
    if position > end and failed < 0:
        failed, status = symbol, int64(Status.TRUNCATED)
    return (position, end, state, failed, status), index + int64(records[at(record + Row.CDF_OFFSET)])


@inlined
def _close(lane: Lane) -> tuple[int, int]:
    """Returns the status and the position of a unit."""
    position, end, state, failed, status = lane
    if failed < 0 and (state != FIRST_STATE or position != end):
        return int64(Status.NOT_AT_END), failed
    return status, failed


@inlined
def _fetch_ahead(row_index: Int32s, symbol: int, records: Int32s, slots: Records) -> None:
    """Prefetches what the symbols soon after this one need: records, and the first of their slots."""
    latest = len(row_index) - 1
    prefetch(records, ROW_FIELDS * int64(row_index[at(min(symbol + _RECORD_AHEAD, latest))]), 0)
    row = ROW_FIELDS * int64(row_index[at(min(symbol + _SLOTS_AHEAD, latest))])
    for line in _SLOT_LINES:
        prefetch(slots, int64(records[at(row + Row.HINT_START)]), line)


@kernel
def _decode_single(
    payload: Uint8s,
    begin: int,
    length: int,
    row_index: Int32s,
    records: Int32s,
    slots: Records,
    intervals: Records,
    integers: Int32s,
    elements: Uint8s,
    element: int,
    first: int,
    offsets: Uint8s,
    first_offset: int,
) -> tuple[int, int]:
    """Decodes a unit; returns its status and position. `integers` holds a block."""
    lane = _open(payload, begin, length)
    symbols = len(row_index)
    written = int64(Status.OK)
    for block in range(0, symbols, BLOCK_SYMBOLS):
        block_end = min(block + BLOCK_SYMBOLS, symbols)
        fetch_elements(elements, element, first + block, block_end - block)
        for symbol in range(block, block_end):
            row = row_index[at(symbol)]
            lane, integer = _step(payload, lane, records, row, slots, intervals, symbol)
            integers[at(symbol - block)] = integer
        written |= write_elements(
            integers[: block_end - block], elements, element, first + block, offsets, first_offset + block
        )
    status, position = _close(lane)
    return status if status != Status.OK else written, position


@kernel
def _decode_interleaved(
    payload: Uint8s,
    begin: int,
    lengths: Uint32s,
    row_index: Int32s,
    stride: int,
    records: Int32s,
    slots: Records,
    intervals: Records,
    elements: Uint8s,
    element: int,
    symbols: int,
    first: int,
    offsets: Uint8s,
    first_offset: int,
    offset_stride: int,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes LANES units, symbol by symbol beside each other."""
    a = _open(payload, begin, lengths[0])
    b = _open(payload, a[1], lengths[1])
    c = _open(payload, b[1], lengths[2])
    d = _open(payload, c[1], lengths[3])
    integers = np.empty((LANES, BLOCK_SYMBOLS), np.int32)
    written = np.zeros(LANES, np.int64)
    for block in range(0, symbols, BLOCK_SYMBOLS):
        block_end = min(block + BLOCK_SYMBOLS, symbols)
        for lane in range(LANES):
            fetch_elements(elements, element, first + lane * symbols + block, block_end - block)
        for symbol in range(block, block_end):
            row = row_index[at(symbol)]
            a, integer = _step(payload, a, records, row, slots, intervals, symbol)
            integers[0, symbol - block] = integer
            row = row_index[at(symbol + stride)]
            b, integer = _step(payload, b, records, row, slots, intervals, symbol)
            integers[1, symbol - block] = integer
            row = row_index[at(symbol + 2 * stride)]
            c, integer = _step(payload, c, records, row, slots, intervals, symbol)
            integers[2, symbol - block] = integer
            row = row_index[at(symbol + 3 * stride)]
            d, integer = _step(payload, d, records, row, slots, intervals, symbol)
            integers[3, symbol - block] = integer
        for lane in range(LANES):
            written[lane] |= write_elements(
                integers[lane, : block_end - block],
                elements,
                element,
                first + lane * symbols + block,
                offsets,
                first_offset + lane * offset_stride + block,
            )
    statuses[0], positions[0] = _close(a)
    statuses[1], positions[1] = _close(b)
    statuses[2], positions[2] = _close(c)
    statuses[3], positions[3] = _close(d)
    for lane in range(LANES):
        if statuses[lane] == Status.OK:
            statuses[lane] = written[lane]


@kernel
def decode_rans64(  # noqa: D417 -- as for decode_units
    payload: Uint8s,
    lengths: Uint32s,
    symbols: int,
    row_index: Int32s,
    unit_stride: int,
    rows: Int32s,
    slots: Records,
    intervals: Records,
    elements: Uint8s,
    element: int,
    offsets: Uint8s,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes one string per unit, laid one after the other in `payload`.

    Args:
      rows: int32 [rows, ROW_FIELDS], row records, whose hints are in `slots`.
      slots: `rans64.SLOT` [...].

    The other arguments are those of `range_decoder.decode_units`.
    """
    units = len(lengths)
    records = rows.reshape(-1)
    integers = np.empty(BLOCK_SYMBOLS, np.int32)
    offset_stride = symbols if len(offsets) == len(elements) else int64(0)
    begin = int64(0)
    unit = 0
    while unit < units:
        unit_rows = row_index[unit * unit_stride : len(row_index)]
        if units - unit >= LANES:
            together = slice(unit, unit + LANES)
            _decode_interleaved(
                payload,
                begin,
                lengths[together],
                unit_rows,
                unit_stride,
                records,
                slots,
                intervals,
                elements,
                element,
                symbols,
                unit * symbols,
                offsets,
                unit * offset_stride,
                offset_stride,
                statuses[together],
                positions[together],
            )
            decoded = unit + LANES
        else:
            statuses[unit], positions[unit] = _decode_single(
                payload,
                begin,
                lengths[unit],
                unit_rows[:symbols],
                records,
                slots,
                intervals,
                integers,
                elements,
                element,
                unit * symbols,
                offsets,
                unit * offset_stride,
            )
            decoded = unit + 1
        while unit < decoded:
            begin += int64(lengths[unit])
            if statuses[unit] != Status.OK:
                blank(elements, element, unit * symbols, symbols)
            unit += 1
