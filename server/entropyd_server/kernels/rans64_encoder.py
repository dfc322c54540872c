"""rANS encoding: coding units to bit strings.

`kernels.rans64` describes the bit stream. Invariant: each coding unit gets one status; a unit that fails
changes no byte of another.

Bounds. An interval adds 16 bits to the state at the most, each of the 9 digits of an escape 4, and rounding
less than 2^-14 of a bit each: MAX_SYMBOL_BYTES hold them. A string grows from the end of the payload towards
its beginning, and is then moved behind the one before.

Speed. Each symbol waits for the state of the one after it: comparison, high product, product, sum, some 12
cycles. As in `kernels.range_encoder`, intervals are found LOOKAHEAD symbols early.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.intrinsics import high_product, load, prefetch
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import MAX_GAMMA_BITS, ROW_FIELDS, Row, Status
from entropyd_server.kernels.range_encoder import BLOCK_SYMBOLS, LOOKAHEAD, SPECIAL, find_interval
from entropyd_server.kernels.rans64 import (
    DIGIT_BITS,
    FIRST_STATE,
    PRECISION,
    STATE_BITS,
    STATE_BYTES,
    WORD_BYTES,
)

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Floats, Int32s, Int64s, Records, Uint8s, Uint32s

MAX_SYMBOL_BYTES = 7
# The state at the end, and a word that is stored whether it is due or not.
PAYLOAD_SLACK_BYTES = STATE_BYTES + WORD_BYTES

_LIMIT = 2.0**31
_MAX_MAGNITUDE = (1 << MAX_GAMMA_BITS) - 1
_TOTAL = 1 << PRECISION
_SPARE_BITS = at(STATE_BITS - PRECISION)
_DIGIT_LIMIT = at(1 << (STATE_BITS - DIGIT_BITS))
_DIGIT = at(DIGIT_BITS)
_WORD = at(8 * WORD_BYTES)
_BYTE = at(0xFF)


def rans64_capacity(symbols: int) -> int:
    """Computes the payload bytes with which `encode_rans64` can always finish `symbols` symbols."""
    return MAX_SYMBOL_BYTES * (symbols + BLOCK_SYMBOLS) + PAYLOAD_SLACK_BYTES


@inlined
def _store_word(payload: Uint8s, position: int, word: int) -> None:
    for byte in range(WORD_BYTES):
        payload[at(position + byte)] = np.uint8((word >> at(8 * byte)) & _BYTE)


@inlined
def _put_interval(
    payload: Uint8s, position: int, state: int, dividers: Records, interval: int
) -> tuple[int, int]:
    """Puts an interval. A word is stored in any case, and kept if it was due."""
    divider = dividers[at(interval)]
    complement = at(divider["complement"])
    _store_word(payload, position - WORD_BYTES, state)
    due = state >> _SPARE_BITS >= at(_TOTAL) - complement
    position -= WORD_BYTES if due else 0
    state = state >> _WORD if due else state
    quotient = high_product(state, at(divider["reciprocal"])) >> at(divider["shift"])
    return position, state + at(divider["bias"]) + quotient * complement


@inlined
def _put_digit(payload: Uint8s, position: int, state: int, digit: int) -> tuple[int, int]:
    if state >= _DIGIT_LIMIT:
        position -= WORD_BYTES
        _store_word(payload, position, state)
        state >>= _WORD
    return position, (state << _DIGIT) | at(digit)


@inlined
def _escape_code(rounded: float, records: Int32s, row: int) -> int:
    """Returns what an escape is followed by; -1 for what cannot be encoded."""
    if not abs(rounded) < _LIMIT:
        return int64(-1)
    escape = int64(records[at(row + Row.ESCAPE)])
    interval = int64(rounded) - int64(records[at(row + Row.CDF_OFFSET)])
    magnitude = -interval if interval < 0 else interval - escape + 1
    if magnitude > _MAX_MAGNITUDE:
        return int64(-1)
    return 2 * magnitude - 1 if interval < 0 else 2 * (magnitude - 1)


@kernel
def _put_escape(
    payload: Uint8s, position: int, state: int, dividers: Records, interval: int, code: int
) -> tuple[int, int]:
    """Puts an escape and its code."""
    digits = 0
    while code >> (DIGIT_BITS * digits):
        digits += 1
    for place in range(digits - 1, -1, -1):
        digit = (code >> (DIGIT_BITS * place)) & ((1 << DIGIT_BITS) - 1)
        position, state = _put_digit(payload, position, state, digit)
    position, state = _put_digit(payload, position, state, digits)
    return _put_interval(payload, position, state, dividers, interval)


@kernel
def _first_failure(
    values: Floats, offsets: Floats, row_index: Int32s, records: Int32s, dividers: Records
) -> tuple[int, int]:
    """Returns the status and the position of the first symbol that cannot be encoded; OK without any."""
    status, position = int64(Status.OK), int64(-1)
    for symbol in range(len(values)):
        rounded = np.rint(load(values, symbol) - offsets[symbol])
        interval = find_interval(rounded, records, row_index[symbol])
        if interval == SPECIAL:
            row = ROW_FIELDS * int64(row_index[symbol])
            if _escape_code(rounded, records, row) < 0:
                status = int64(Status.OUT_OF_RANGE if np.isfinite(rounded) else Status.NOT_FINITE)
            interval = int64(records[at(row + Row.START)]) + int64(records[at(row + Row.ESCAPE)])
        if status == Status.OK and dividers[at(interval)]["reciprocal"] == 0:
            status = int64(Status.ZERO_PROBABILITY)
        if status != Status.OK:
            position = int64(symbol)
            break
    return status, position


@inlined
def _fetch_ahead(row_index: Int32s, symbol: int, records: Int32s, dividers: Records, interval: int) -> None:
    """Prefetches the divider of an interval that was found, and the record of a later row."""
    prefetch(dividers, interval, 0)
    prefetch(records, ROW_FIELDS * int64(row_index[at(max(symbol - 2 * LOOKAHEAD, 0))]), 0)


@kernel
def encode_rans64(
    values: Floats,
    offsets: Floats,
    row_index: Int32s,
    unit_stride: int,
    rows: Int32s,
    dividers: Records,
    first_unit: int,
    payload: Uint8s,
    lengths: Uint32s,
    statuses: Uint8s,
    positions: Int64s,
) -> tuple[int, int, int]:
    """Quantizes and encodes units [first_unit, units), one string after the other.

    symbol = rint(value - offset) in the dtype of `values`, ties to even; then integers.

    Args:
      values: float32 or float64 [units, symbols], at any address.
      offsets: Same dtype, quantization offset of every symbol: as long as `row_index`, or [symbols] for all
        units.
      row_index: int32, row of every symbol: [symbols] for all units, or [units * symbols]. It must be below
        the number of rows.
      unit_stride: 0 if all units share `row_index`, else `symbols`.
      rows: int32 [rows, ROW_FIELDS], row records.
      dividers: `rans64.DIVIDER` [intervals].
      first_unit: Where to begin.
      payload: uint8 [capacity], written.
      lengths: uint32 [units], written: bytes of each string, 0 for a unit that failed.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: first element that failed, else -1.

    Returns:
      next_unit: The first unit not encoded: `units`, unless the payload was too short. One of
        `rans64_capacity(symbols)` bytes always holds one more unit.
      end: Where the last string ends.
      escapes: Symbols that were escaped in units that did not fail.
    """
    units, symbols = values.shape
    records = rows.reshape(-1)
    lookahead = np.empty(LOOKAHEAD, np.int64)
    end = int64(0)
    escapes = 0
    for unit in range(first_unit, units):
        unit_values = values[unit]
        own = slice(unit * unit_stride, unit * unit_stride + symbols)
        unit_rows = row_index[own] if unit_stride else row_index
        unit_offsets = offsets[own] if len(offsets) > symbols else offsets
        position, state = int64(len(payload)), at(FIRST_STATE)
        escaped, failed = 0, False
        for symbol in range(max(symbols - LOOKAHEAD, 0), symbols):
            rounded = np.rint(load(unit_values, symbol) - unit_offsets[symbol])
            lookahead[at(symbol & (LOOKAHEAD - 1))] = find_interval(rounded, records, unit_rows[symbol])
        block_end = int64(symbols)
        while block_end > 0 and not failed:
            if end + MAX_SYMBOL_BYTES * BLOCK_SYMBOLS + PAYLOAD_SLACK_BYTES > position:
                return unit, end, escapes
            block = max(block_end - BLOCK_SYMBOLS, 0)
            for symbol in range(block_end - 1, block - 1, -1):
                interval = lookahead[at(symbol & (LOOKAHEAD - 1))]
                # Before the first symbol this repeats it, into a place that is not read any more.
                later = at(max(symbol - LOOKAHEAD, 0))
                found = find_interval(
                    np.rint(load(unit_values, later) - unit_offsets[later]), records, unit_rows[later]
                )
                _fetch_ahead(unit_rows, symbol, records, dividers, found)
                lookahead[at(symbol & (LOOKAHEAD - 1))] = found
                if interval != SPECIAL:
                    failed |= dividers[at(interval)]["reciprocal"] == 0
                    position, state = _put_interval(payload, position, state, dividers, interval)
                    continue
                rounded = np.rint(load(unit_values, symbol) - unit_offsets[symbol])
                row = ROW_FIELDS * int64(unit_rows[symbol])
                interval = int64(records[at(row + Row.START)]) + int64(records[at(row + Row.ESCAPE)])
                code = _escape_code(rounded, records, row)
                if code < 0 or dividers[at(interval)]["reciprocal"] == 0:
                    failed = True
                    break
                position, state = _put_escape(payload, position, state, dividers, interval, code)
                escaped += 1
            block_end = block
        begin = end
        if failed:
            statuses[unit], positions[unit] = _first_failure(
                unit_values, unit_offsets, unit_rows, records, dividers
            )
        else:
            if end + PAYLOAD_SLACK_BYTES > position:
                return unit, end, escapes
            position -= STATE_BYTES
            _store_word(payload, position, state)
            _store_word(payload, position + WORD_BYTES, state >> _WORD)
            for source in range(position, len(payload)):
                payload[at(end)] = payload[at(source)]
                end += 1
            escapes += escaped
            statuses[unit], positions[unit] = int64(Status.OK), int64(-1)
        lengths[unit] = end - begin
    return units, end, escapes
