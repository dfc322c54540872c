"""Range decoding of three or four coding units side by side.

Owns four chains that do not depend on one another, step by step beside each other, so that the processor
works on one while another waits. It must not know models, shapes or requests. Invariant: each unit decodes
as `kernels.range_decoder` defines, whatever its neighbours are, and within the bound stated there. Lockstep
does the same for more lanes, but their state goes through memory; here it stays in registers.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd_server.kernels.decoder_steps import (
    decode_escape,
    escaped_integer,
    fetch_ahead,
    is_at_end,
    load_word,
    narrow,
    quotient,
    search,
)
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import FULL_SIZE, ROW_FIELDS, Row, Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Floats, Int32s, Int64s, Uint8s, Uint16s, Uint32s

    Lane = tuple[int, int, int]  # position of the next word, ahead, size
    LaneRow = tuple[int, int, int, int]  # start, escape, bucket_start, bucket_shift

# Units side by side: their state still fits the registers.
QUAD = 4
# Two units are decoded faster one after the other, by guesses.
MIN_QUAD = 3


@inlined
def _open(payload: Uint8s, begin: int, end: int) -> Lane:
    """A lane at the beginning of a string."""
    ahead = (load_word(payload, begin, end) << 16) | load_word(payload, begin + 2, end)
    return begin + 4, ahead, int64(FULL_SIZE)


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
def decode_quad(
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
    """Decodes MIN_QUAD to QUAD units, as `decode_units` would each of them."""
    for unit in range(len(lengths)):
        statuses[unit], positions[unit] = Status.OK, -1
    fourth = len(lengths) > 3
    index_d = int64(0)
    end_a = begin + int64(lengths[0])
    end_b = end_a + int64(lengths[1])
    end_c = end_b + int64(lengths[2])
    # A lane without a unit has an empty string, and stays where it begins.
    end_d = end_c + (int64(lengths[3]) if fourth else 0)
    a, b = _open(payload, begin, end_a), _open(payload, end_a, end_b)
    c, d = _open(payload, end_b, end_c), _open(payload, end_c, end_d)
    for symbol in range(len(row_index)):
        fetch_ahead(row_index, symbol, records, bounds, buckets)
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
        c, index_c = _step(c, row, precision, bounds, buckets)
        if fourth:
            d, index_d = _step(d, row, precision, bounds, buckets)
        # Behind all searches: a branch of one that was mispredicted throws away what was begun after it.
        a = _refill(payload, end_a, a)
        b = _refill(payload, end_b, b)
        c = _refill(payload, end_c, c)
        if index_a == escape:
            a, index_a = _after_escape(payload, end_a, a, escape, symbol, 0, statuses, positions)
        if index_b == escape:
            b, index_b = _after_escape(payload, end_b, b, escape, symbol, 1, statuses, positions)
        if index_c == escape:
            c, index_c = _after_escape(payload, end_c, c, escape, symbol, 2, statuses, positions)
        cdf_offset = int64(records[at(record + Row.CDF_OFFSET)])
        offset = offsets[symbol]
        values[0, symbol] = values.dtype.type(index_a + cdf_offset) + offset
        values[1, symbol] = values.dtype.type(index_b + cdf_offset) + offset
        values[2, symbol] = values.dtype.type(index_c + cdf_offset) + offset
        if not fourth:
            continue
        d = _refill(payload, end_d, d)
        if index_d == escape:
            d, index_d = _after_escape(payload, end_d, d, escape, symbol, 3, statuses, positions)
        values[3, symbol] = values.dtype.type(index_d + cdf_offset) + offset
    if sanity_check:
        _close(payload, end_a, a, 0, statuses)
        _close(payload, end_b, b, 1, statuses)
        _close(payload, end_c, c, 2, statuses)
        if fourth:
            _close(payload, end_d, d, 3, statuses)
