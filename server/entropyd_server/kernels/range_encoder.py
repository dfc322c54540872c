"""Range encoding: coding units to bit strings.

`kernels.range_coder` describes the bit stream. Invariant: each coding unit gets one status; a unit that fails
changes no byte of another.

Bounds. At most one word (16 bits) for an interval and, with the escape of 2 * 30 + 1 bits at most,
MAX_SYMBOL_BYTES per symbol. All state is int64: base below 2^49, size * upper at most 2^48.

Speed. Coding is a chain through `size`, some eight cycles per symbol that nothing can overtake. Finding the
interval of a symbol does not depend on that chain, so the loop does it LOOKAHEAD symbols early: the processor
then fills the chain's gaps with it. It prefetches the interval's bounds at that time, and the row's record as
long before: a processor that waits for a line of the tables cannot look further ahead. Symbols are read and
rounded a block at a time, which takes vector instructions.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.elements import BLOCK_SYMBOLS
from entropyd_server.kernels.encoder_steps import (
    LOOKAHEAD,
    RESIDENT_BYTES,
    RING_SYMBOLS,
    SPECIAL,
    escape_of,
    find_interval,
    first_failure,
    read_block,
)
from entropyd_server.kernels.intrinsics import prefetch
from entropyd_server.kernels.jit import at, called, inlined, int64, kernel
from entropyd_server.kernels.range_coder import FULL_SIZE, MAX_GAMMA_BITS, ROW_FIELDS, WORD_SIZE, Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Int64s, Uint8s, Uint16s, Uint32s

# One word for the escape symbol, and 61 single bits: size at least halves at each, less 2^-16 of a bit of
# rounding, so a word leaves on every 15th of them at the most often, and one more may have been due.
MAX_SYMBOL_BYTES = 12
# Two bytes before the first string, which the pending word of its encoder rewrites, and room for the words
# that are stored at the end of a string before it is cut.
PAYLOAD_GUARD_BYTES = 2
PAYLOAD_SLACK_BYTES = 16

_LOW_32 = (1 << 32) - 1
_LOW_48 = (1 << 48) - 1


def encoded_capacity(symbols: int) -> int:
    """Computes the payload bytes with which `encode_units` can always finish `symbols` symbols."""
    return PAYLOAD_GUARD_BYTES + MAX_SYMBOL_BYTES * (symbols + BLOCK_SYMBOLS) + PAYLOAD_SLACK_BYTES


# The carry. TFC keeps a 32-bit base and, while the interval straddles 2^32, delays the last word and counts
# the zero words after it until the base says whether they become top + 1, 0, 0, ... or top, FFFF, FFFF, ...
# That is the carry of the addition base + a written out. Here base has 48 bits: above TFC's 32 stands the
# last word, not yet stored, which takes a carry in the addition itself. Only if it overflows too (it was
# FFFF) the carry has to walk back through stored words, about once in 2^16 carries.
#
# The place of the pending word is [end - 2, end). When a unit begins, the word is whatever two bytes lie
# there. No carry reaches them, as base + size <= 2^32 until the first word leaves, so storing them again
# changes nothing.


@inlined
def _store_word(payload: Uint8s, end: int, word: int) -> None:
    payload[at(end)] = np.uint8((word >> 8) & 0xFF)
    payload[at(end + 1)] = np.uint8(word & 0xFF)


@inlined
def _load_word(payload: Uint8s, start: int) -> int:
    return (int64(payload[at(start)]) << 8) | int64(payload[at(start + 1)])


@inlined
def _carry(payload: Uint8s, end: int) -> None:
    """Adds one to the number whose last word ends at `end`; it does not overflow, see above."""
    word = (_load_word(payload, end - 2) + 1) & 0xFFFF
    _store_word(payload, end - 2, word)
    while word == 0:
        end -= 2
        word = (_load_word(payload, end - 2) + 1) & 0xFFFF
        _store_word(payload, end - 2, word)


@inlined
def _encode_interval(
    payload: Uint8s, base: int, size: int, end: int, lower: int, upper: int, precision: int
) -> tuple[int, int, int]:
    """Narrows the interval by one symbol. A word is stored in any case, and kept if it was due."""
    a = (size * lower) >> precision
    size = ((size * upper) >> precision) - a
    base += a
    if base > _LOW_48:
        _carry(payload, end - 2)
        base &= _LOW_48
    _store_word(payload, end - 2, base >> 32)
    # Whether a word is due cannot be predicted, so it is a shift by 16 or 0 rather than a branch.
    shift = int64(size <= WORD_SIZE) << 4
    return (base << shift) & _LOW_48, size << shift, end + (shift >> 3)


@inlined
def _encode_escape(
    payload: Uint8s, base: int, size: int, end: int, magnitude: int, sign: int
) -> tuple[int, int, int]:
    """Appends the Elias gamma code of `magnitude` (1 to 2^30 - 1) and the sign bit."""
    bits = 1
    while bits < MAX_GAMMA_BITS and magnitude >> bits:
        base, size, end = _encode_interval(payload, base, size, end, 0, 1, 1)
        bits += 1
    while bits > 0:
        bits -= 1
        bit = (magnitude >> bits) & 1
        base, size, end = _encode_interval(payload, base, size, end, bit, bit + 1, 1)
    return _encode_interval(payload, base, size, end, sign, sign + 1, 1)


@inlined
def _finish(payload: Uint8s, base: int, size: int, end: int) -> int:
    """Stores the shortest bytes that name a number in the interval, zeros implied; returns their end."""
    window = base & _LOW_32
    _store_word(payload, end - 2, base >> 32)
    if window + size > FULL_SIZE:
        # 2^32 is inside: round up to it. Words that become zero by that, and a low zero byte, are implied.
        while _load_word(payload, end - 2) == 0xFFFF:
            end -= 2
        word = _load_word(payload, end - 2) + 1
        _store_word(payload, end - 2, word)
        return end - 1 if word & 0xFF == 0 else end
    if window == 0:
        return end
    upper = window + size - 1
    top = ((window - 1) >> 24) + 1
    if top <= upper >> 24:
        payload[at(end)] = np.uint8(top)
        return end + 1
    # A multiple of 2^16 is always inside, because size >= 2^16.
    top = ((window - 1) >> 16) + 1
    _store_word(payload, end, top)
    return end + 1 if top & 0xFF == 0 else end + 2


@inlined
def _pair_of(bounds: Uint16s, interval: int) -> int:
    """Loads first and last cumulative probability of an interval as one number, first + last * 2^16."""
    return int64(bounds[at(2 * interval)]) | int64(bounds[at(2 * interval + 1)]) << 16


@called
def _encode_special(
    integer: int,
    records: Int32s,
    row_index: int,
    bounds: Uint16s,
    precision: int,
    payload: Uint8s,
    base: int,
    size: int,
    end: int,
) -> tuple[bool, int, int, int]:
    """Encodes an escape; returns False, and the state as it is, for what cannot be encoded."""
    interval, magnitude, sign = escape_of(integer, records, row_index)
    pair = _pair_of(bounds, interval)
    if magnitude == 0 or pair & 0xFFFF > pair >> 16:
        return False, base, size, end
    base, size, end = _encode_interval(payload, base, size, end, pair & 0xFFFF, (pair >> 16) + 1, precision)
    base, size, end = _encode_escape(payload, base, size, end, magnitude, sign)
    return True, base, size, end


@kernel
def encode_units(  # noqa: PLR0912, PLR0915 -- its state stays in it
    elements: Uint8s,
    element: int,
    symbols: int,
    offsets: Uint8s,
    row_index: Int32s,
    unit_stride: int,
    rows: Int32s,
    bounds: Uint16s,
    precision: int,
    first_unit: int,
    payload: Uint8s,
    lengths: Uint32s,
    statuses: Uint8s,
    positions: Int64s,
) -> tuple[int, int, int]:
    """Encodes units [first_unit, units), one string after the other.

    Args:
      elements: uint8, the bytes of all elements [units, symbols], at any address; see `kernels.elements`.
      element: An Element.
      symbols: Of each unit.
      offsets: uint8, the bytes of the quantization offset of every symbol, floats like the elements: as many
        as elements, or those of one unit for all; empty without any.
      row_index: int32, row of every symbol: [symbols] for all units, or [units * symbols]. It must be below
        the number of rows.
      unit_stride: 0 if all units share `row_index`, else `symbols`.
      rows: int32 [rows, ROW_FIELDS], row records.
      bounds: uint16 [2 * intervals], first and last cumulative probability of every interval.
      precision: 1 to 16.
      first_unit: Where to begin.
      payload: uint8 [capacity], written from byte PAYLOAD_GUARD_BYTES on.
      lengths: uint32 [units], written: bytes of each string, 0 for a unit that failed.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: first element that failed, else -1.

    Returns:
      next_unit: The first unit not encoded: `units`, unless the payload was too short. One of
        `encoded_capacity(symbols)` bytes always holds one more unit.
      end: Where the last string ends.
      escapes: Symbols that were escaped in units that did not fail.
    """
    units = len(lengths)
    records = rows.reshape(-1)
    lookahead = np.empty(LOOKAHEAD, np.int64)
    ring = np.empty(RING_SYMBOLS, np.int32)
    offset_stride = symbols if len(offsets) == len(elements) else int64(0)
    far = 4 * len(records) + 2 * len(bounds) > RESIDENT_BYTES
    end = int64(PAYLOAD_GUARD_BYTES)
    escapes = 0
    if len(payload) < PAYLOAD_GUARD_BYTES:
        return first_unit, end, escapes
    for unit in range(first_unit, units):
        first, first_offset = unit * symbols, unit * offset_stride
        # Not sliced where one will do, which is a hundredth or two faster.
        unit_rows = row_index[unit * unit_stride : unit * unit_stride + symbols] if unit_stride else row_index
        begin = end
        base, size = _load_word(payload, begin - 2) << 32, int64(FULL_SIZE)
        escaped = 0
        block_end = min(BLOCK_SYMBOLS, symbols)
        done = read_block(elements, element, first, offsets, first_offset, 0, block_end, ring)
        for symbol in range(min(LOOKAHEAD, symbols)):
            lookahead[symbol] = find_interval(ring[symbol], records, unit_rows[symbol])
        block = 0
        while block < symbols and done:
            if end + MAX_SYMBOL_BYTES * BLOCK_SYMBOLS + PAYLOAD_SLACK_BYTES > len(payload):
                return unit, begin, escapes
            next_end = min(block_end + BLOCK_SYMBOLS, symbols)
            done = read_block(elements, element, first, offsets, first_offset, block_end, next_end, ring)
            for symbol in range(block, block_end):
                interval = lookahead[at(symbol & (LOOKAHEAD - 1))]
                # Behind the last symbol this repeats it, into a place that is not read any more.
                later = at(min(symbol + LOOKAHEAD, symbols - 1))
                found = find_interval(ring[later & at(RING_SYMBOLS - 1)], records, unit_rows[later])
                prefetch(bounds, 2 * found, 0)
                if far:
                    later = at(min(symbol + 2 * LOOKAHEAD, symbols - 1))
                    prefetch(records, ROW_FIELDS * int64(unit_rows[later]), 0)
                lookahead[at(symbol & (LOOKAHEAD - 1))] = found
                if interval != SPECIAL:
                    pair = _pair_of(bounds, interval)
                    lower, upper = pair & 0xFFFF, (pair >> 16) + 1
                    base, size, end = _encode_interval(payload, base, size, end, lower, upper, precision)
                    continue
                if size == 0:
                    break
                coded, base, size, end = _encode_special(
                    ring[at(symbol & (RING_SYMBOLS - 1))],
                    records,
                    unit_rows[at(symbol)],
                    bounds,
                    precision,
                    payload,
                    base,
                    size,
                    end,
                )
                if not coded:
                    done = False
                    break
                escaped += 1
            # An interval of probability zero leaves nothing, and nothing it stays: one test per block.
            done &= size != 0
            block, block_end = block_end, next_end
        if done:
            # The finish stores three words at most beyond `end`.
            if end + PAYLOAD_SLACK_BYTES > len(payload):
                return unit, begin, escapes
            end = _finish(payload, base, size, end)
            escapes += escaped
            statuses[unit], positions[unit] = int64(Status.OK), int64(-1)
        else:
            end = begin
            statuses[unit], positions[unit] = first_failure(
                elements, element, first, offsets, first_offset, unit_rows[:symbols], records, bounds
            )
        lengths[unit] = end - begin
    return units, end, escapes
