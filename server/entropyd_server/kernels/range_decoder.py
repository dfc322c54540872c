"""Range decoding as a Numba kernel: bit strings to coding units.

Owns the decoder's half of the bit stream that `kernels.range_coder` describes. It must not know models,
shapes or requests. Invariant: for every byte string the kernel ends within the bound below, touches no
memory but its arguments, and leaves one status per coding unit; a unit that fails changes no value of
another.

Bound. A symbol takes one step for its interval and, if that is the escape, at most MAX_GAMMA_BITS zeros, as
many bits again less one, and a sign: at most 61 steps in all, whatever the bytes are. The search for an
interval takes a few steps and then as many as bisecting the row. Past its end a string reads as zeros.

The symbol. Let value be the 32 bits of the string that stand against [base, base + size), and
ahead = value - base, 0 <= ahead < size. Base itself is not needed to decode: narrowing subtracts a from
ahead, scaling appends a word to it. The symbol is the last interval with floor(size * lower / 2^p) <= ahead,
which is

    size * lower < (ahead + 1) * 2^p   <=>   lower <= q,   q = floor(((ahead + 1) * 2^p - 1) / size),

so one exact division gives the cumulative probability q that the row is searched for. As ahead < size,
q < 2^p, and the search ends inside the row.

Speed. Each symbol waits for the one before: division, two table reads, a product, some 36 cycles. For a unit
alone `kernels.lone_decoder` takes the division out of that chain. Units of a batch share the plan, so
several of them are decoded symbol by symbol: their chains overlap, and a row is read once for all. QUAD of
them keep their state in registers; LANES of them are decoded in lockstep, where the arithmetic is the same
for every lane, so that the compiler makes vector instructions of it.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd_server.kernels.decoder_steps import (
    decode_escape,
    escaped_integer,
    is_at_end,
    load_word,
    narrow,
    quotient,
    search,
)
from entropyd_server.kernels.jit import at, inlined, int64, kernel, prefetch
from entropyd_server.kernels.lone_decoder import decode_alone
from entropyd_server.kernels.range_coder import FULL_SIZE, ROW_FIELDS, WORD_SIZE, Row, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    Uint8s = npt.NDArray[np.uint8]
    Uint16s = npt.NDArray[np.uint16]
    Uint32s = npt.NDArray[np.uint32]
    Int32s = npt.NDArray[np.int32]
    Int64s = npt.NDArray[np.int64]
    Float64s = npt.NDArray[np.float64]
    Floats = npt.NDArray[np.floating[Any]]
    Lane = tuple[int, int, int]  # position of the next word, ahead, size
    LaneRow = tuple[int, int, int, int]  # start, escape, bucket_start, bucket_shift

# Units in lockstep: two vectors of eight float64, which keeps an AVX-512 machine's units busy.
LANES = 16
# With fewer units than this, QUAD of them side by side are as fast.
MIN_LANES = 12
# Units side by side: their state still fits the registers.
QUAD = 4
# A unit alone is decoded faster on its own.
MIN_QUAD = 2
# Symbols in lockstep between two transfers to `values`, whose units lie far apart.
BLOCK_SYMBOLS = 64

# How early the tables of a symbol are fetched.
_PREFETCH_SYMBOLS = 8


@inlined
def _fetch_ahead(row_index: Int32s, symbol: int, records: Int32s, bounds: Uint16s, buckets: Uint16s) -> None:
    row = ROW_FIELDS * int64(row_index[at(min(symbol + _PREFETCH_SYMBOLS, len(row_index) - 1))])
    first_bucket, first_bound = (
        int64(records[at(row + Row.BUCKET_START)]),
        2 * int64(records[at(row + Row.START)]),
    )
    # Most rows are no longer.
    for line in (0, 1, 2):
        prefetch(buckets, first_bucket, line)
        prefetch(bounds, first_bound, line)


# A quad: four chains that do not depend on one another, step by step beside each other, so that the processor
# works on one while another waits. Lockstep does so for more lanes, but their state goes through memory.


@inlined
def _open(payload: Uint8s, begin: int, end: int) -> Lane:
    """A lane at the beginning of a string."""
    ahead = (load_word(payload, begin, end) << 16) | load_word(payload, begin + 2, end)
    return begin + 4, ahead, int64(FULL_SIZE)


@inlined
def _string(lengths: Uint32s, unit: int, begin: int, end: int) -> tuple[int, int]:
    """Where a unit's string lies, behind one in [begin, end); if there is no such unit, that one again."""
    if unit < len(lengths):
        return end, end + int64(lengths[unit])
    return begin, end


@inlined
def _step(lane: Lane, row: LaneRow, precision: int, bounds: Uint16s, buckets: Uint16s) -> tuple[Lane, int]:
    """Decodes the index of a symbol in its row; `_refill` has to follow."""
    position, ahead, size = lane
    start, escape, bucket_start, bucket_shift = row
    q = quotient(ahead, size, precision)
    found = start + int64(buckets[at(bucket_start + (q >> bucket_shift))])
    # The first step without a branch: whether it is taken cannot be predicted.
    found += int64(int64(bounds[at(2 * found + 1)]) < q)
    found, last = search(bounds, found, start + escape, q)
    a = (size * int64(bounds[at(2 * found)])) >> precision
    b = (size * last + size) >> precision
    return (position, ahead - a, b - a), found - start


@inlined
def _refill(payload: Uint8s, end: int, lane: Lane) -> Lane:
    """Appends a word if it is due."""
    return narrow(payload, lane[0], end, lane[1], 0, lane[2])


@inlined
def _after_escape(
    payload: Uint8s,
    end: int,
    lane: Lane,
    escape: int,
    symbol: int,
    unit: int,
    statuses: Uint8s,
    positions: Int64s,
) -> tuple[Lane, int]:
    """Decodes what follows an escape. A lane that fails goes on with what it finds, which is discarded."""
    position, ahead, size = lane
    position, ahead, size, magnitude = decode_escape(payload, position, end, ahead, size)
    if magnitude == 0 and statuses[unit] == Status.OK:
        statuses[unit], positions[unit] = Status.ESCAPE_TOO_LONG, symbol
    return (position, ahead, size), escaped_integer(magnitude, escape)


@inlined
def _close(payload: Uint8s, end: int, lane: Lane, unit: int, statuses: Uint8s) -> None:
    """Checks the end of a unit that has not failed."""
    position, ahead, size = lane
    if statuses[unit] == Status.OK and not is_at_end(payload, position, end, ahead, size):
        statuses[unit] = Status.NOT_AT_END


@kernel
def _decode_quad(
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
    """Decodes 1 to QUAD units, as `decode_units` would each of them."""
    for unit in range(len(lengths)):
        statuses[unit], positions[unit] = Status.OK, -1
    # A lane without a unit decodes the last one once more.
    last = len(lengths) - 1
    unit_b, unit_c, unit_d = min(1, last), min(2, last), min(3, last)
    # Two units are decoded without the other two lanes.
    wide = last > 1
    index_c = index_d = int64(0)
    begin, end_a = _string(lengths, 0, begin, begin)
    a = _open(payload, begin, end_a)
    begin, end_b = _string(lengths, 1, begin, end_a)
    b = _open(payload, begin, end_b)
    begin, end_c = _string(lengths, 2, begin, end_b)
    c = _open(payload, begin, end_c)
    begin, end_d = _string(lengths, 3, begin, end_c)
    d = _open(payload, begin, end_d)
    for symbol in range(len(row_index)):
        _fetch_ahead(row_index, symbol, records, bounds, buckets)
        record = ROW_FIELDS * int64(row_index[symbol])
        escape = int64(records[at(record + Row.ESCAPE)])
        row = (
            int64(records[at(record + Row.START)]),
            escape,
            int64(records[at(record + Row.BUCKET_START)]),
            int64(records[at(record + Row.BUCKET_SHIFT)]),
        )
        a, index_a = _step(a, row, precision, bounds, buckets)
        b, index_b = _step(b, row, precision, bounds, buckets)
        if wide:
            c, index_c = _step(c, row, precision, bounds, buckets)
            d, index_d = _step(d, row, precision, bounds, buckets)
        # Behind all searches: a branch of one that was mispredicted throws away what was begun after it.
        a = _refill(payload, end_a, a)
        b = _refill(payload, end_b, b)
        if index_a == escape:
            a, index_a = _after_escape(payload, end_a, a, escape, symbol, 0, statuses, positions)
        if index_b == escape:
            b, index_b = _after_escape(payload, end_b, b, escape, symbol, unit_b, statuses, positions)
        cdf_offset = int64(records[at(record + Row.CDF_OFFSET)])
        offset = offsets[symbol]
        values[0, symbol] = values.dtype.type(index_a + cdf_offset) + offset
        values[unit_b, symbol] = values.dtype.type(index_b + cdf_offset) + offset
        if not wide:
            continue
        c = _refill(payload, end_c, c)
        d = _refill(payload, end_d, d)
        if index_c == escape:
            c, index_c = _after_escape(payload, end_c, c, escape, symbol, unit_c, statuses, positions)
        if index_d == escape:
            d, index_d = _after_escape(payload, end_d, d, escape, symbol, unit_d, statuses, positions)
        values[unit_c, symbol] = values.dtype.type(index_c + cdf_offset) + offset
        values[unit_d, symbol] = values.dtype.type(index_d + cdf_offset) + offset
    if sanity_check:
        _close(payload, end_a, a, 0, statuses)
        _close(payload, end_b, b, unit_b, statuses)
        if wide:
            _close(payload, end_c, c, unit_c, statuses)
            _close(payload, end_d, d, unit_d, statuses)


# Lockstep. All of a lane's arithmetic is in float64, where it is exact: the numbers are integers below 2^53
# (ahead < size <= 2^32, size * upper <= 2^48), or such an integer times a power of two before it is rounded
# down. So is the quotient's floor: it is below 2^16, so that the quotient's rounding error is below 2^-37,
# while a quotient that is no integer is at least 1 / size >= 2^-32 away from the next one.
#
# The lanes' state lies in one vector of scratch, field by field, lane by lane. Loops over `width` lanes have
# no branches and no dependence between lanes; that `width` is no constant keeps LLVM from unrolling them
# into scalar code.

_AHEAD, _SIZE, _Q, _LOWER, _UPPER, _WORD, _FIELDS = (field * LANES for field in range(7))
_POSITION, _END = 0, LANES

LANE_STATE = _FIELDS
LANE_PLACES = 2 * LANES


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
def _decode_lockstep(
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
    state: Float64s,
    places: Int64s,
    integers: Int32s,
    values: Floats,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes 1 to LANES units, as `decode_units` would each of them."""
    lanes, symbols = values.shape
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
            _fetch_ahead(row_index, symbol, records, bounds, buckets)
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


@kernel
def decode_units(
    payload: Uint8s,
    lengths: Uint32s,
    offsets: Floats,
    row_index: Int32s,
    rows: Int32s,
    bounds: Uint16s,
    buckets: Uint16s,
    hints: Uint16s,
    reciprocals: Uint32s,
    precision: int,
    sanity_check: bool,
    state: Float64s,
    places: Int64s,
    integers: Int32s,
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
      bounds: uint16 [2 * intervals], first and last cumulative probability of every interval.
      buckets: uint16 [...], where to begin the search of a row.
      hints: uint16 [...], where an interval is looked for first.
      reciprocals: uint32 [...], as `lone_decoder.reciprocals_of` gives them.
      precision: 1 to 16.
      sanity_check: Whether a unit must end as an encoder would have ended it.
      state: float64 [LANE_STATE], scratch.
      places: int64 [LANE_PLACES], scratch.
      integers: int32 [BLOCK_SYMBOLS * LANES], scratch.
      values: Dtype of `offsets` [units, symbols], written; NaN throughout a unit that failed.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: first element that failed; -1 if none did or the end is wrong.
    """
    units = len(lengths)
    records = rows.reshape(-1)
    begin = int64(0)
    unit = 0
    while unit < units:
        lanes = min(units - unit, LANES)
        if lanes < MIN_QUAD:
            lanes = 1
            end = begin + int64(lengths[unit])
            status, position = decode_alone(
                payload,
                begin,
                end,
                offsets,
                row_index,
                records,
                bounds,
                hints,
                reciprocals,
                precision,
                sanity_check,
                values[unit],
            )
            statuses[unit], positions[unit] = status, position
        elif lanes < MIN_LANES:
            lanes = min(lanes, QUAD)
            group = slice(unit, unit + lanes)
            _decode_quad(
                payload,
                begin,
                lengths[group],
                offsets,
                row_index,
                records,
                bounds,
                buckets,
                precision,
                sanity_check,
                values[group],
                statuses[group],
                positions[group],
            )
        else:
            group = slice(unit, unit + lanes)
            _decode_lockstep(
                payload,
                begin,
                lengths[group],
                offsets,
                row_index,
                records,
                bounds,
                buckets,
                precision,
                sanity_check,
                state,
                places,
                integers,
                values[group],
                statuses[group],
                positions[group],
            )
        for decoded in range(unit, unit + lanes):
            begin += int64(lengths[decoded])
            if statuses[decoded] != Status.OK:
                values[decoded, :] = np.nan
        unit += lanes
