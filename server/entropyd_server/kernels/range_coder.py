"""The range coder of TensorFlow Compression as Numba kernels: coding units to bit strings and back.

Owns the bit stream. It must not know models, shapes or requests, and it trusts its tables: they have been
parsed (`coding.tables`). Invariant: for every array of values and every byte string a kernel ends within
the bounds below, touches no memory but its arguments, and leaves one status per coding unit; a unit that
fails changes no byte and no value of another.

The stream reproduces `RangeEncoder` and `RangeDecoder` of TensorFlow Compression 2.14.1
(cc/lib/range_coder.{h,cc}), with the escape of `OverflowEncode` and `OverflowDecode`
(cc/kernels/range_coder_kernels.cc), bit for bit. docs/range-coder.md specifies it.

State. A coder holds the interval [base, base + size) of 32-bit numbers, 2^16 <= size <= 2^32 between
symbols. A symbol whose quantized CDF rises from `lower` to `upper` out of 2^precision keeps

    [base + a, base + b),  a = floor(size * lower / 2^precision),  b = floor(size * upper / 2^precision).

If at most 2^16 of size are left, the top 16 bits of base leave as one big-endian word and the interval is
scaled by 2^16. Since size >= 2^16 >= 2^precision before a symbol, an interval of positive probability keeps
at least size 1, so one word per symbol is always enough. All state is int64: base below 2^49, size * upper
at most 2^48.

Bounds. Encoding: at most one word (16 bits) for an interval and, with the escape of 2 * 30 + 1 bits at
most, MAX_SYMBOL_BYTES per symbol. Decoding: at most MAX_GAMMA_BITS zeros, as many bits again and a sign,
so at most 61 decoding steps per symbol, whatever the bytes are; past its end a string reads as zeros.
"""

# ruff: noqa: PLR0915, PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd_server.kernels.jit import at, inlined, int64, kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Uint8s = npt.NDArray[np.uint8]
    Uint16s = npt.NDArray[np.uint16]
    Uint32s = npt.NDArray[np.uint32]
    Int32s = npt.NDArray[np.int32]
    Int64s = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.floating[Any]]


class Status(IntEnum):
    """How one coding unit ended."""

    OK = 0
    NOT_FINITE = 1
    """Encoding met NaN or an infinity."""
    OUT_OF_RANGE = 2
    """Encoding met a value whose distance from its row is 2^MAX_GAMMA_BITS or more."""
    ZERO_PROBABILITY = 3
    """Encoding met a symbol whose interval is empty."""
    ESCAPE_TOO_LONG = 4
    """Decoding met an escape that no encoder writes."""
    NOT_AT_END = 5
    """All symbols were decoded, but the state is not one in which an encoder ends (decode sanity check)."""


class Row(IntEnum):
    """Columns of the row records."""

    START = 0
    """Position in `cdf` of the row's first cumulative probability, which is 0."""
    ESCAPE = 1
    """Index within the row of its last interval, the escape symbol."""
    CDF_OFFSET = 2
    """The integer that interval 0 stands for."""
    BUCKET_START = 3
    """Position in `buckets` of the row's first bucket."""
    BUCKET_SHIFT = 4
    """Base-2 logarithm of the cumulative probabilities per bucket."""


# Two records share a 64-byte cache line.
ROW_FIELDS = 8

# An escape magnitude has at most this many bits, as in TFC, whose loop over int32 does not end beyond.
MAX_GAMMA_BITS = 30
# One word for the escape symbol, and 61 single bits: size at least halves at each, less 2^-16 of a bit of
# rounding, so a word leaves on every 15th of them at the most often, and one more may have been due.
MAX_SYMBOL_BYTES = 12
# Two bytes before the first string, which the pending word of its encoder rewrites, and room for the words
# that are stored at the end of a string before it is cut.
PAYLOAD_GUARD_BYTES = 2
PAYLOAD_SLACK_BYTES = 16
# Between two checks of the room that is left in the payload.
BLOCK_SYMBOLS = 256

_FULL_SIZE = 1 << 32
_LOW_32 = (1 << 32) - 1
_LOW_48 = (1 << 48) - 1
_LIMIT = 2.0**31
_MAX_MAGNITUDE = (1 << MAX_GAMMA_BITS) - 1
# Steps of linear search before bisection takes over.
_SHORT_SCAN = 8


def encoded_capacity(symbols: int) -> int:
    """Payload bytes with which `encode_units` can always finish `symbols` symbols of one or more units."""
    return PAYLOAD_GUARD_BYTES + MAX_SYMBOL_BYTES * (symbols + BLOCK_SYMBOLS) + PAYLOAD_SLACK_BYTES


# --- Encoder -----------------------------------------------------------------------------------------------
#
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
    """Narrows the interval by one symbol; a word is stored in any case, and kept if it was due."""
    a = (size * lower) >> precision
    size = ((size * upper) >> precision) - a
    base += a
    if base > _LOW_48:
        _carry(payload, end - 2)
        base &= _LOW_48
    _store_word(payload, end - 2, base >> 32)
    if size <= 1 << 16:
        return (base << 16) & _LOW_48, size << 16, end + 2
    return base, size, end


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
    """Stores the shortest bytes that name a number in the interval, zeros implied; gives their end."""
    window = base & _LOW_32
    _store_word(payload, end - 2, base >> 32)
    if window + size > _FULL_SIZE:
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


@kernel
def encode_units(
    values: Floats,
    offsets: Floats,
    row_index: Int32s,
    rows: Int32s,
    cdf: Int32s,
    precision: int,
    first_unit: int,
    payload: Uint8s,
    lengths: Uint32s,
    statuses: Uint8s,
    positions: Int64s,
) -> tuple[int, int, int]:
    """Quantizes and encodes units [first_unit, units), one string after the other.

    symbol = rint(value - offset) in the dtype of `values`, ties to even; then integers.

    Args:
      values: float32 or float64 [units, symbols].
      offsets: Same dtype [symbols], quantization offsets.
      row_index: int32 [symbols], row of every symbol.
      rows: int32 [rows, ROW_FIELDS], row records.
      cdf: int32 [length], coding tables.
      precision: 1 to 16.
      first_unit: Where to begin.
      payload: uint8 [capacity], written from byte PAYLOAD_GUARD_BYTES on.
      lengths: uint32 [units], written: bytes of each string, 0 for a unit that failed.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: first element that failed, else -1.

    Returns:
      (next_unit, end, escaped): the first unit not yet encoded, which is `units` unless the payload was too
      short for it; the end of the last string; how many symbols of good units were escaped.
      A payload of `encoded_capacity(symbols)` bytes always holds one more unit.
    """
    units, symbols = values.shape
    end = int64(PAYLOAD_GUARD_BYTES)
    escaped = 0
    for unit in range(first_unit, units):
        begin = end
        base = _load_word(payload, begin - 2) << 32
        size = int64(_FULL_SIZE)
        unit_escaped = 0
        status = Status.OK
        position = int64(-1)
        block = 0
        while block < symbols and status == Status.OK:
            if end + MAX_SYMBOL_BYTES * BLOCK_SYMBOLS + PAYLOAD_SLACK_BYTES > len(payload):
                return unit, begin, escaped
            block_end = min(block + BLOCK_SYMBOLS, symbols)
            for symbol in range(block, block_end):
                row = at(row_index[symbol])
                start = int64(rows[row, Row.START])
                escape = int64(rows[row, Row.ESCAPE])
                rounded = np.rint(values[unit, symbol] - offsets[symbol])
                # False for NaN as well; the conversion below is defined only inside.
                if not abs(rounded) < _LIMIT:
                    finite = np.isfinite(rounded)
                    status, position = Status.OUT_OF_RANGE if finite else Status.NOT_FINITE, symbol
                    break
                interval = int64(rounded) - int64(rows[row, Row.CDF_OFFSET])
                magnitude = 0
                sign = 0
                if interval < 0 or interval >= escape:
                    sign = int64(interval < 0)
                    magnitude = -interval if sign else interval - escape + 1
                    interval = escape
                    if magnitude > _MAX_MAGNITUDE:
                        status, position = Status.OUT_OF_RANGE, symbol
                        break
                    unit_escaped += 1
                lower = int64(cdf[at(start + interval)])
                upper = int64(cdf[at(start + interval + 1)])
                if lower == upper:
                    status, position = Status.ZERO_PROBABILITY, symbol
                    break
                base, size, end = _encode_interval(payload, base, size, end, lower, upper, precision)
                if magnitude:
                    base, size, end = _encode_escape(payload, base, size, end, magnitude, sign)
            block = block_end
        if status == Status.OK:
            # The finish stores three words at most beyond `end`.
            if end + PAYLOAD_SLACK_BYTES > len(payload):
                return unit, begin, escaped
            end = _finish(payload, base, size, end)
            escaped += unit_escaped
        else:
            end = begin
        lengths[unit] = end - begin
        statuses[unit] = status
        positions[unit] = position
    return units, end, escaped


# --- Decoder -----------------------------------------------------------------------------------------------
#
# Let value be the 32 bits of the string that stand against [base, base + size), and ahead = value - base,
# 0 <= ahead < size. Base itself is not needed to decode: narrowing subtracts a from ahead, scaling appends a
# word to it. The symbol is the last interval with floor(size * lower / 2^p) <= ahead, which is
#
#     size * lower < (ahead + 1) * 2^p   <=>   lower <= q,   q = floor(((ahead + 1) * 2^p - 1) / size),
#
# so one exact division gives the cumulative probability q that the row is searched for. As ahead < size,
# q < 2^p, and the search ends inside the row.
#
# Strings are read as words, with zeros past the end: the kernel first unpacks a unit's bytes into `words`,
# and reads the zero word behind them for every later position.


@inlined
def _find_interval(
    cdf: Int32s, buckets: Uint16s, rows: Int32s, row: int, start: int, escape: int, q: int
) -> int:
    """Gives the position in `cdf` of the last interval of the row that begins at or before q."""
    bucket = int64(rows[row, Row.BUCKET_START]) + (q >> int64(rows[row, Row.BUCKET_SHIFT]))
    found = start + int64(buckets[at(bucket)])
    for _ in range(_SHORT_SCAN):
        if int64(cdf[at(found + 1)]) > q:
            return found
        found += 1
    last = start + escape
    while found < last:
        middle = (found + last + 1) >> 1
        if int64(cdf[at(middle)]) <= q:
            found = middle
        else:
            last = middle - 1
    return found


@inlined
def _narrow(
    words: Uint16s, zero_word: int, ahead: int, read: int, a: int, size_left: int
) -> tuple[int, int, int]:
    """Takes over the interval [a, a + size_left); loads a word in any case, and uses it if it is due."""
    word = int64(words[at(min(read, zero_word))])
    ahead -= a
    if size_left <= 1 << 16:
        return (ahead << 16) | word, size_left << 16, read + 1
    return ahead, size_left, read


@inlined
def _decode_bit(
    words: Uint16s, zero_word: int, ahead: int, size: int, read: int
) -> tuple[int, int, int, int]:
    """Decodes one bit of probability 1/2."""
    half = size >> 1
    if ahead < half:
        ahead, size, read = _narrow(words, zero_word, ahead, read, 0, half)
        return ahead, size, read, 0
    ahead, size, read = _narrow(words, zero_word, ahead, read, half, size - half)
    return ahead, size, read, 1


@inlined
def _decode_escape(
    words: Uint16s, zero_word: int, ahead: int, size: int, read: int
) -> tuple[int, int, int, int, int]:
    """Decodes an Elias gamma code and a sign; magnitude 0 says that the code is longer than any legal one."""
    zeros = 0
    bit = 0
    while zeros < MAX_GAMMA_BITS:
        ahead, size, read, bit = _decode_bit(words, zero_word, ahead, size, read)
        if bit:
            break
        zeros += 1
    if zeros == MAX_GAMMA_BITS:
        return ahead, size, read, 0, 0
    magnitude = 1
    for _ in range(zeros):
        ahead, size, read, bit = _decode_bit(words, zero_word, ahead, size, read)
        magnitude = (magnitude << 1) | bit
    ahead, size, read, sign = _decode_bit(words, zero_word, ahead, size, read)
    return ahead, size, read, magnitude, sign


@inlined
def _is_at_end(words: Uint16s, zero_word: int, length: int, ahead: int, size: int, read: int) -> bool:
    """Says whether an encoder could have ended here (`RangeDecoder::Finalize`).

    All bytes must have been read, and value must be the number that `_finish` picks from the interval.
    """
    if 2 * read < length:
        return False
    value = (int64(words[at(min(read - 2, zero_word))]) << 16) | int64(words[at(min(read - 1, zero_word))])
    base = (value - ahead) & _LOW_32
    upper = base + size - 1
    if base == 0 or upper > _LOW_32:
        return value == 0
    shift = 24 if (base - 1) >> 24 < upper >> 24 else 16
    return (((base - 1) >> shift) + 1) << shift == value


@kernel
def decode_units(
    payload: Uint8s,
    lengths: Uint32s,
    offsets: Floats,
    row_index: Int32s,
    rows: Int32s,
    cdf: Int32s,
    buckets: Uint16s,
    precision: int,
    sanity_check: bool,
    words: Uint16s,
    values: Floats,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes one string per unit, laid one after the other in `payload`.

    value = symbol + offset in the dtype of `values`, one rounding each for the conversion and the sum.

    Args:
      payload: uint8 [bytes], at least the sum of `lengths`.
      lengths: uint32 [units].
      offsets: float32 or float64 [symbols], quantization offsets.
      row_index: int32 [symbols], row of every symbol.
      rows: int32 [rows, ROW_FIELDS], row records.
      cdf: int32 [length], coding tables.
      buckets: uint16 [...], where to begin the search of a row.
      precision: 1 to 16.
      sanity_check: Whether a unit must end as an encoder would have ended it.
      words: uint16 [at least max(lengths) / 2 + 1, rounded up], scratch.
      values: Dtype of `offsets` [units, symbols], written; NaN throughout a unit that failed.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: first element that failed; -1 if none did or the end is wrong.
    """
    units, symbols = values.shape
    begin = int64(0)
    for unit in range(units):
        length = int64(lengths[unit])
        for word in range(length >> 1):
            words[word] = _load_word(payload, begin + 2 * word)
        zero_word = length >> 1
        if length & 1:
            words[zero_word] = int64(payload[at(begin + length - 1)]) << 8
            zero_word += 1
        words[zero_word] = 0
        begin += length

        ahead = (int64(words[0]) << 16) | int64(words[at(min(1, zero_word))])
        size = int64(_FULL_SIZE)
        read = int64(2)
        status = Status.OK
        position = int64(-1)
        for symbol in range(symbols):
            row = at(row_index[symbol])
            start = int64(rows[row, Row.START])
            escape = int64(rows[row, Row.ESCAPE])
            q = int64(np.uint64(((ahead + 1) << precision) - 1) // np.uint64(size))
            found = _find_interval(cdf, buckets, rows, row, start, escape, q)
            a = (size * int64(cdf[at(found)])) >> precision
            b = (size * int64(cdf[at(found + 1)])) >> precision
            ahead, size, read = _narrow(words, zero_word, ahead, read, a, b - a)
            interval = found - start
            if interval == escape:
                ahead, size, read, magnitude, sign = _decode_escape(words, zero_word, ahead, size, read)
                if magnitude == 0:
                    status, position = Status.ESCAPE_TOO_LONG, symbol
                    break
                interval = -magnitude if sign else escape - 1 + magnitude
            integer = interval + int64(rows[row, Row.CDF_OFFSET])
            values[unit, symbol] = values.dtype.type(integer) + offsets[symbol]
        if (
            status == Status.OK
            and sanity_check
            and not _is_at_end(words, zero_word, length, ahead, size, read)
        ):
            status = Status.NOT_AT_END
        if status != Status.OK:
            values[unit, :] = np.nan
        statuses[unit] = status
        positions[unit] = position
