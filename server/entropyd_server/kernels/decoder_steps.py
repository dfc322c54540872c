"""What all ways of decoding share: fetching tables, reading words, narrowing, searching, escapes, the end.

Owns the steps of the decoder that `kernels.range_coder` describes, on one string. It must not know how many
units are decoded together. Invariant: a step touches no memory but its arguments, and ends within the bound
of `kernels.range_decoder`, whatever the bytes are.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.jit import at, inlined, int64, kernel, prefetch
from entropyd_server.kernels.range_coder import MAX_GAMMA_BITS, ROW_FIELDS, WORD_SIZE, Row

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Uint8s, Uint16s

_LOW_32 = (1 << 32) - 1
# Steps of linear search before bisection takes over.
_SHORT_SCAN = 8
# How early the tables of a symbol are asked for, and the record that says where they are.
_TABLES_AHEAD = 8
_RECORD_AHEAD = 24


@inlined
def fetch_record(row_index: Int32s, symbol: int, records: Int32s) -> int:
    """Asks for the record of a symbol far ahead; gives where that of a nearer one is, for its tables."""
    latest = len(row_index) - 1
    prefetch(records, ROW_FIELDS * int64(row_index[at(min(symbol + _RECORD_AHEAD, latest))]), 0)
    return ROW_FIELDS * int64(row_index[at(min(symbol + _TABLES_AHEAD, latest))])


@inlined
def fetch_ahead(row_index: Int32s, symbol: int, records: Int32s, bounds: Uint16s, buckets: Uint16s) -> None:
    """Asks for what the symbols soon after this one need: their records, bounds and buckets."""
    row = fetch_record(row_index, symbol, records)
    bucket, first_bound = int64(records[at(row + Row.BUCKET_START)]), 2 * int64(records[at(row + Row.START)])
    # Most rows are no longer.
    for line in (0, 1, 2):
        prefetch(buckets, bucket, line)
        prefetch(bounds, first_bound, line)


@inlined
def load_word(payload: Uint8s, position: int, end: int) -> int:
    """The 16 bits at `position` of a string that ends at `end`."""
    if position + 1 < end:
        return (int64(payload[at(position)]) << 8) | int64(payload[at(position + 1)])
    if position < end:
        return int64(payload[at(position)]) << 8
    return int64(0)


@inlined
def quotient(ahead: int, size: int, precision: int) -> int:
    """The cumulative probability q."""
    # Both sides of the division are scaled by 2^16. That does not change the quotient, but most dividends
    # then have more than 32 bits, and a branch by which LLVM tries for a 32-bit division is predictable.
    low = ((1 << precision) - 1) << 16
    return int64(np.uint64((ahead << (precision + 16)) | low) // np.uint64(size << 16))


@inlined
def search(bounds: Uint16s, found: int, escape: int, q: int) -> tuple[int, int]:
    """Gives the first interval from `found` to `escape` that does not end before q, and where it ends."""
    last = int64(bounds[at(2 * found + 1)])
    for _ in range(_SHORT_SCAN):
        if last >= q:
            return found, last
        found += 1
        last = int64(bounds[at(2 * found + 1)])
    while found < escape:
        middle = (found + escape) >> 1
        if int64(bounds[at(2 * middle + 1)]) >= q:
            escape = middle
        else:
            found = middle + 1
    return found, int64(bounds[at(2 * found + 1)])


@inlined
def narrow(payload: Uint8s, position: int, end: int, ahead: int, a: int, size: int) -> tuple[int, int, int]:
    """Takes over the interval [a, a + size); loads a word in any case, and uses it if it is due."""
    word = load_word(payload, position, end)
    ahead -= a
    if size <= WORD_SIZE:
        return position + 2, (ahead << 16) | word, size << 16
    return position, ahead, size


@inlined
def decode_bit(payload: Uint8s, position: int, end: int, ahead: int, size: int) -> tuple[int, int, int, int]:
    """Decodes one bit of probability 1/2."""
    half = size >> 1
    if ahead < half:
        position, ahead, size = narrow(payload, position, end, ahead, 0, half)
        return position, ahead, size, 0
    position, ahead, size = narrow(payload, position, end, ahead, half, size - half)
    return position, ahead, size, 1


@kernel
def decode_escape(
    payload: Uint8s, position: int, end: int, ahead: int, size: int
) -> tuple[int, int, int, int]:
    """Decodes an Elias gamma code and a sign, as a signed magnitude; 0 for a code that no encoder writes."""
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
    """The integer, relative to the row, that an escape stands for."""
    return magnitude if magnitude < 0 else escape - 1 + magnitude


@inlined
def is_at_end(payload: Uint8s, position: int, end: int, ahead: int, size: int) -> bool:
    """Says whether an encoder could have ended here (`RangeDecoder::Finalize`).

    All bytes must have been read, and value must be the number that the encoder picks from the interval.
    """
    if position < end:
        return False
    value = (load_word(payload, position - 4, end) << 16) | load_word(payload, position - 2, end)
    base = (value - ahead) & _LOW_32
    upper = base + size - 1
    if base == 0 or upper > _LOW_32:
        return value == 0
    shift = 24 if (base - 1) >> 24 < upper >> 24 else 16
    return (((base - 1) >> shift) + 1) << shift == value
