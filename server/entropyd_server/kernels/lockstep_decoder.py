"""Range decoding of many coding units of one plan in lockstep, symbol by symbol.

Owns the lanes' arithmetic, the same for every lane, so that the compiler makes vector instructions of it. It
must not know models, shapes or requests. Invariant: each unit decodes as `kernels.range_decoder` defines,
whatever its neighbours are, and within the bound stated there.

All of a lane's arithmetic is in float64, where it is exact: the numbers are integers below 2^53
(ahead < size <= 2^32, size * upper <= 2^48), or such an integer times a power of two before it is rounded
down. So is the quotient's floor: it is below 2^16, so that the quotient's rounding error is below 2^-37,
while a quotient that is no integer is at least 1 / size >= 2^-32 away from the next one.

The lanes' state lies in one vector of scratch, field by field, lane by lane. Loops over `width` lanes have no
branches and no dependence between lanes. `width` is LANES, but read from an array's length: where LLVM sees
the number at once, it unrolls these loops into scalar code before it would make vectors of them.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.decoder_steps import (
    decode_escape,
    escaped_integer,
    fetch_ahead,
    is_at_end,
    load_word,
    search,
)
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import FULL_SIZE, ROW_FIELDS, WORD_SIZE, Row, Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Float64s, Floats, Int32s, Int64s, Uint8s, Uint16s, Uint32s

# Units in lockstep: two vectors of eight float64, which keeps an AVX-512 machine's units busy.
LANES = 16
# With fewer units than this, a few of them side by side are as fast.
MIN_LANES = 12
# Symbols in lockstep between two transfers to `values`, whose units lie far apart.
BLOCK_SYMBOLS = 64


_AHEAD, _SIZE, _Q, _LOWER, _UPPER, _WORD, _FIELDS = (field * LANES for field in range(7))
_POSITION, _END = 0, LANES


@inlined
def _lane_quotients(state: Float64s, width: int, total: float) -> None:
    for lane in range(width):
        q = (state[at(_AHEAD + lane)] * total + (total - 1.0)) / state[at(_SIZE + lane)]
        state[at(_Q + lane)] = q


@inlined
def _lane_narrow(state: Float64s, places: Int64s, width: int, total: float) -> None:
    for lane in range(width):
        size = state[at(_SIZE + lane)]
        a = np.floor(size * state[at(_LOWER + lane)] * (1.0 / total))
        b = np.floor(size * state[at(_UPPER + lane)] * (1.0 / total))
        ahead = state[at(_AHEAD + lane)] - a
        size = b - a
        due = size <= float(WORD_SIZE)
        state[at(_AHEAD + lane)] = ahead * float(WORD_SIZE) + state[at(_WORD + lane)] if due else ahead
        state[at(_SIZE + lane)] = size * float(WORD_SIZE) if due else size
        places[at(_POSITION + lane)] += 2 if due else 0


@kernel
def _lane_escapes(
    payload: Uint8s,
    state: Float64s,
    places: Int64s,
    integers: Int32s,
    symbol: int,
    escape: int,
    cdf_offset: int,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Replaces the escape symbols among the lanes' integers by what follows them in the strings."""
    for lane in range(len(integers)):
        if int64(integers[lane]) - cdf_offset != escape:
            continue
        places[_POSITION + lane], ahead, size, magnitude = decode_escape(
            payload,
            places[_POSITION + lane],
            places[_END + lane],
            int64(state[_AHEAD + lane]),
            int64(state[_SIZE + lane]),
        )
        state[_AHEAD + lane], state[_SIZE + lane] = float(ahead), float(size)
        integers[lane] = escaped_integer(magnitude, escape) + cdf_offset
        # A lane that failed goes on with what it finds, which is discarded at the end.
        if magnitude == 0 and statuses[lane] == Status.OK:
            statuses[lane], positions[lane] = Status.ESCAPE_TOO_LONG, symbol


@kernel
def decode_lockstep(
    payload: Uint8s,
    begin: int,
    lengths: Uint32s,
    offsets: Floats,
    row_index: Int32s,
    records: Int32s,
    bounds: Uint16s,
    buckets: Uint16s,
    precision: int,
    sanity_check: bool,
    values: Floats,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes 1 to LANES units, as `decode_units` would each of them."""
    lanes, symbols = values.shape
    state, places = np.empty(_FIELDS, np.float64), np.empty(2 * LANES, np.int64)
    integers = np.empty(BLOCK_SYMBOLS * LANES, np.int32)
    width = len(places) // 2
    total = float(1 << precision)
    # A lane without a unit keeps its whole interval for ever.
    for lane in range(width):
        end = begin + (int64(lengths[lane]) if lane < lanes else 0)
        places[_POSITION + lane] = begin + 4
        places[_END + lane] = end
        state[_AHEAD + lane] = float(
            (load_word(payload, begin, end) << 16) | load_word(payload, begin + 2, end)
        )
        state[_SIZE + lane] = float(FULL_SIZE)
        state[_LOWER + lane], state[_UPPER + lane], state[_WORD + lane] = 0.0, total, 0.0
        begin = end
    for lane in range(lanes):
        statuses[lane], positions[lane] = Status.OK, -1

    for block in range(0, symbols, BLOCK_SYMBOLS):
        block_end = min(block + BLOCK_SYMBOLS, symbols)
        for symbol in range(block, block_end):
            fetch_ahead(row_index, symbol, records, bounds, buckets)
            row = ROW_FIELDS * int64(row_index[symbol])
            start = int64(records[at(row + Row.START)])
            escape = int64(records[at(row + Row.ESCAPE)])
            cdf_offset = int64(records[at(row + Row.CDF_OFFSET)])
            bucket_start = int64(records[at(row + Row.BUCKET_START)])
            bucket_shift = int64(records[at(row + Row.BUCKET_SHIFT)])
            first = (symbol - block) * width

            _lane_quotients(state, width, total)
            escapes = 0
            for lane in range(lanes):
                q = int64(state[at(_Q + lane)])
                found = start + int64(buckets[at(bucket_start + (q >> bucket_shift))])
                # The first step without a branch: whether it is taken cannot be predicted.
                found += int64(int64(bounds[at(2 * found + 1)]) < q)
                found, last = search(bounds, found, start + escape, q)
                state[at(_LOWER + lane)] = float(bounds[at(2 * found)])
                state[at(_UPPER + lane)] = float(last + 1)
                state[at(_WORD + lane)] = float(
                    load_word(payload, places[at(_POSITION + lane)], places[at(_END + lane)])
                )
                escapes += int64(found - start == escape)
                integers[at(first + lane)] = found - start + cdf_offset
            _lane_narrow(state, places, width, total)

            if escapes:
                escaped = integers[first : first + lanes]
                _lane_escapes(
                    payload, state, places, escaped, symbol, escape, cdf_offset, statuses, positions
                )
        for lane in range(lanes):
            for symbol in range(block, block_end):
                integer = integers[at((symbol - block) * width + lane)]
                values[lane, symbol] = values.dtype.type(integer) + offsets[symbol]

    for lane in range(lanes):
        ahead, size = int64(state[_AHEAD + lane]), int64(state[_SIZE + lane])
        if (
            statuses[lane] == Status.OK
            and sanity_check
            and not is_at_end(payload, places[_POSITION + lane], places[_END + lane], ahead, size)
        ):
            statuses[lane] = Status.NOT_AT_END
