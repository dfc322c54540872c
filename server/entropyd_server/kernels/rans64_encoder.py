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

from entropyd_server.kernels.elements import BLOCK_SYMBOLS
from entropyd_server.kernels.encoder_steps import (
    LOOKAHEAD,
    RING_SYMBOLS,
    SPECIAL,
    escape_of,
    find_interval,
    first_failure,
    read_block,
)
from entropyd_server.kernels.intrinsics import high_product, prefetch
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import ROW_FIELDS, Status
from entropyd_server.kernels.rans64 import (
    DIGIT_BITS,
    FIRST_STATE,
    PRECISION,
    STATE_BITS,
    STATE_BYTES,
    WORD_BYTES,
)

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Int64s, Records, Uint8s, Uint16s, Uint32s

MAX_SYMBOL_BYTES = 7
# The state at the end, and a word that is stored whether it is due or not.
PAYLOAD_SLACK_BYTES = STATE_BYTES + WORD_BYTES

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


@kernel
def _put_escape(
    payload: Uint8s, position: int, state: int, dividers: Records, interval: int, magnitude: int, sign: int
) -> tuple[int, int]:
    """Puts an escape, and the code of its magnitude and sign."""
    code = 2 * magnitude - 1 if sign else 2 * (magnitude - 1)
    digits = 0
    while code >> (DIGIT_BITS * digits):
        digits += 1
    for place in range(digits - 1, -1, -1):
        digit = (code >> (DIGIT_BITS * place)) & ((1 << DIGIT_BITS) - 1)
        position, state = _put_digit(payload, position, state, digit)
    position, state = _put_digit(payload, position, state, digits)
    return _put_interval(payload, position, state, dividers, interval)


@inlined
def _fetch_ahead(row_index: Int32s, symbol: int, records: Int32s, dividers: Records, interval: int) -> None:
    """Prefetches the divider of an interval that was found, and the record of a later row."""
    prefetch(dividers, interval, 0)
    prefetch(records, ROW_FIELDS * int64(row_index[at(max(symbol - 2 * LOOKAHEAD, 0))]), 0)


@kernel
def encode_rans64(  # noqa: D417, PLR0912, PLR0915 -- as for encode_units, whose loop it turns around
    elements: Uint8s,
    element: int,
    symbols: int,
    offsets: Uint8s,
    row_index: Int32s,
    unit_stride: int,
    rows: Int32s,
    bounds: Uint16s,
    dividers: Records,
    first_unit: int,
    payload: Uint8s,
    lengths: Uint32s,
    statuses: Uint8s,
    positions: Int64s,
) -> tuple[int, int, int]:
    """Encodes units [first_unit, units), one string after the other.

    Args:
      dividers: `rans64.DIVIDER` [intervals].
      payload: uint8 [capacity], written.

    The other arguments, and what is returned, are as for `range_encoder.encode_units`; it is
    `rans64_capacity` that says what always holds one more unit.
    """
    units = len(lengths)
    records = rows.reshape(-1)
    lookahead = np.empty(LOOKAHEAD, np.int64)
    ring = np.empty(RING_SYMBOLS, np.int32)
    offset_stride = symbols if len(offsets) == len(elements) else int64(0)
    end = int64(0)
    escapes = 0
    for unit in range(first_unit, units):
        first, first_offset = unit * symbols, unit * offset_stride
        unit_rows = row_index[unit * unit_stride : unit * unit_stride + symbols] if unit_stride else row_index
        position, state = int64(len(payload)), at(FIRST_STATE)
        escaped = 0
        block_end = int64(symbols)
        block = max(block_end - 1, 0) & -BLOCK_SYMBOLS
        done = read_block(elements, element, first, offsets, first_offset, block, block_end, ring)
        if block > 0:  # the last block may be shorter than the lookahead
            done &= read_block(
                elements, element, first, offsets, first_offset, block - BLOCK_SYMBOLS, block, ring
            )
        for symbol in range(max(symbols - LOOKAHEAD, 0), symbols):
            lookahead[at(symbol & (LOOKAHEAD - 1))] = find_interval(
                ring[at(symbol & (RING_SYMBOLS - 1))], records, unit_rows[at(symbol)]
            )
        while block_end > 0 and done:
            if end + MAX_SYMBOL_BYTES * BLOCK_SYMBOLS + PAYLOAD_SLACK_BYTES > position:
                return unit, end, escapes
            for symbol in range(block_end - 1, block - 1, -1):
                interval = lookahead[at(symbol & (LOOKAHEAD - 1))]
                # Before the first symbol this repeats it, into a place that is not read any more.
                later = at(max(symbol - LOOKAHEAD, 0))
                found = find_interval(ring[later & at(RING_SYMBOLS - 1)], records, unit_rows[later])
                _fetch_ahead(unit_rows, symbol, records, dividers, found)
                lookahead[at(symbol & (LOOKAHEAD - 1))] = found
                if interval != SPECIAL:
                    done &= dividers[at(interval)]["reciprocal"] != 0
                    position, state = _put_interval(payload, position, state, dividers, interval)
                    continue
                interval, magnitude, sign = escape_of(
                    ring[at(symbol & (RING_SYMBOLS - 1))], records, unit_rows[at(symbol)]
                )
                if magnitude == 0 or dividers[at(interval)]["reciprocal"] == 0:
                    done = False
                    break
                position, state = _put_escape(payload, position, state, dividers, interval, magnitude, sign)
                escaped += 1
            block_end, block = block, block - BLOCK_SYMBOLS
            if block > 0:
                done &= read_block(
                    elements, element, first, offsets, first_offset, block - BLOCK_SYMBOLS, block, ring
                )
        begin = end
        if done:
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
        else:
            statuses[unit], positions[unit] = first_failure(
                elements, element, first, offsets, first_offset, unit_rows[:symbols], records, bounds
            )
        lengths[unit] = end - begin
    return units, end, escapes
