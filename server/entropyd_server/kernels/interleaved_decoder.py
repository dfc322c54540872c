"""Range decoding of several coding units, symbol by symbol beside each other.

Decoding is a chain from symbol to symbol; several chains fill one another's gaps. Each unit decodes as
`kernels.range_decoder` defines, whatever the other units are.

The lanes are written out, because only local variables stay in registers: a loop over lanes, whose state goes
through memory, takes a quarter longer.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.decoder_steps import (
    append_word,
    decode_escape,
    end_status,
    escaped_integer,
    fetch_ahead,
    load_word,
    quotient,
)
from entropyd_server.kernels.elements import fetch_elements, write_elements
from entropyd_server.kernels.intrinsics import prefetch
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import FULL_SIZE, ROW_FIELDS, Row, Status
from entropyd_server.kernels.single_decoder import search

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.kernels.arrays import Hints, Int32s, Int64s, Records, Uint8s, Uint16s, Uint32s

    # Position of the next word, end of the string, ahead, size, symbol at which the unit failed or -1.
    Lane = tuple[int, int, int, int, int]
    # Row.START, ESCAPE, CDF_OFFSET, HINT_START, and the shift from a cumulative probability to its hint.
    LaneRow = tuple[int, int, int, int, int]
    # Cumulative probability q, and the interval where it is looked for first.
    Guess = tuple[int, int]

# Numbers of units that are decoded together. Two are faster one after the other, and eight only where they
# share their rows.
GROUPS = (8, 4, 3)

# Integers that are kept until they are written: so few that those of eight units leave tables in the
# first-level cache.
_BLOCK_SYMBOLS = 64
_SEARCH = 8
# In a row of no more intervals the hint is right so often that a branch costs less than a step.
_SURE_INTERVALS = 6
# Records and bounds of no more bytes are nearly always in the second-level cache, and prefetching costs units
# with rows of their own more than it gains.
_RESIDENT_BYTES = 1 << 18
# Log2 of the hints of a row that is prefetched as a whole, or nearly so.
_SHORT_ROW_BITS = 8


@inlined
def _open(payload: Uint8s, begin: int, length: int) -> Lane:
    """Returns a lane at the beginning of a string."""
    end = begin + int64(length)
    ahead = (load_word(payload, begin, end) << 16) | load_word(payload, begin + 2, end)
    return begin + 4, end, ahead, int64(FULL_SIZE), int64(-1)


@inlined
def _row(records: Int32s, row: int, precision: int) -> LaneRow:
    """Loads a row record."""
    record = ROW_FIELDS * int64(row)
    return (
        int64(records[at(record + Row.START)]),
        int64(records[at(record + Row.ESCAPE)]),
        int64(records[at(record + Row.CDF_OFFSET)]),
        int64(records[at(record + Row.HINT_START)]),
        int64(records[at(record + Row.HINT_SHIFT)]) - (64 - precision),
    )


@inlined
def _look_up(lane: Lane, row: LaneRow, precision: int, hints: Hints) -> Guess:
    """Computes the cumulative probability, and reads its hint."""
    q = quotient(lane[2], lane[3], precision)
    return q, row[0] + int64(hints[at(row[3] + (q >> row[4]))])


@inlined
def _step(
    lane: Lane, row: LaneRow, guess: Guess, precision: int, bounds: Uint16s, intervals: Records, sure: bool
) -> tuple[Lane, int]:
    """Decodes the index of a symbol in its row; `_finish` has to follow.

    `sure` says that a hint of a row of few intervals is nearly always right.
    """
    position, end, ahead, size, failed = lane
    start, escape = row[:2]
    q, found = guess
    if not sure or escape > _SURE_INTERVALS:
        # The first step without a branch: whether it is taken cannot be predicted.
        found += int64(int64(bounds[at(2 * found + 1)]) < q) - int64(int64(bounds[at(2 * found)]) > q)
    lower, upper = int64(bounds[at(2 * found)]), int64(bounds[at(2 * found + 1)]) + 1
    steps = 0
    # One comparison, as unsigned numbers. An empty interval holds no q.
    while at(q - lower) >= at(upper - lower):
        found += 1 if q >= upper else -1
        steps += 1
        if steps == _SEARCH:
            found = start + search(intervals, start, escape, ahead, size)
        lower, upper = int64(bounds[at(2 * found)]), int64(bounds[at(2 * found + 1)]) + 1
    a = (size * lower) >> precision
    b = (size * upper) >> precision
    return (position, end, ahead - a, b - a, failed), found - start


@inlined
def _finish(payload: Uint8s, lane: Lane, row: LaneRow, index: int, symbol: int) -> tuple[Lane, int]:
    """Appends a word if it is due, and decodes what follows an escape; returns the symbol's integer.

    A lane that fails goes on with what it finds, which is discarded.
    """
    position, end, ahead, size, failed = lane
    position, ahead, size, _ = append_word(payload, position, end, ahead, size)
    if index == row[1]:
        position, ahead, size, magnitude = decode_escape(payload, position, end, ahead, size)
        if magnitude == 0 and failed < 0:
            failed = symbol
        index = escaped_integer(magnitude, index)
    return (position, end, ahead, size, failed), index + row[2]


@inlined
def _close(payload: Uint8s, lane: Lane, sanity_check: bool) -> tuple[int, int]:
    """Returns the status and the position of a unit."""
    position, end, ahead, size, failed = lane
    if failed >= 0:
        return int64(Status.ESCAPE_TOO_LONG), failed
    return end_status(payload, position, end, ahead, size, sanity_check), failed


def _decoder(most: int, *, own_rows: bool) -> Callable[..., None]:  # noqa: PLR0915 -- a statement per lane
    """Makes the kernel that decodes eight units, or with `most` of 4 three or four.

    What a kernel finds outside of itself is a constant to Numba, which does not compile lanes that are never
    there; `count` has a bound that LLVM sees. The kernel takes what `range_decoder.decode_units` does, of its
    units alone: the first string starts at byte `begin` of `payload`, the first element and the offset of it
    have the numbers `first` and `first_offset`, and offsets of units lie `offset_stride` apart.

    Args:
      most: 8 or 4.
      own_rows: Whether each unit has rows of its own, `unit_stride` apart; else that is not read.
    """

    @kernel
    def decode(  # noqa: PLR0912, PLR0915 -- a statement per lane
        payload: Uint8s,
        begin: int,
        lengths: Uint32s,
        row_index: Int32s,
        unit_stride: int,
        records: Int32s,
        bounds: Uint16s,
        hints: Hints,
        intervals: Records,
        precision: int,
        sanity_check: bool,
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
        # A constant where it is one, so that a shared row is loaded once.
        stride = unit_stride if own_rows else int64(0)
        count = most if most > 4 else min(len(lengths), most)
        a = _open(payload, begin, lengths[0])
        b = _open(payload, a[1], lengths[1])
        c = _open(payload, b[1], lengths[2])
        d = e = f = g = h = c
        index_d = index_e = index_f = index_g = index_h = int64(0)
        if count > 3:
            d = _open(payload, c[1], lengths[3])
        if most > 4:
            e = _open(payload, d[1], lengths[4])
            f = _open(payload, e[1], lengths[5])
            g = _open(payload, f[1], lengths[6])
            h = _open(payload, g[1], lengths[7])
        # Each lane would prefetch for itself.
        fetched = not own_rows or 4 * len(records) + 2 * len(bounds) > _RESIDENT_BYTES
        integers = np.empty((GROUPS[0], _BLOCK_SYMBOLS), np.int32)
        written = np.zeros(GROUPS[0], np.int64)
        for block in range(0, symbols, _BLOCK_SYMBOLS):
            block_end = min(block + _BLOCK_SYMBOLS, symbols)
            for lane in range(count):
                fetch_elements(elements, element, first + lane * symbols + block, block_end - block)
            for symbol in range(block, block_end):
                if fetched:
                    fetch_ahead(row_index, symbol, records, hints, bounds, 2)
                    if own_rows:
                        for lane in range(1, count):
                            fetch_ahead(row_index, symbol + lane * stride, records, hints, bounds, 2)
                # Before the steps, so that a shared row is loaded once.
                row_a = _row(records, row_index[at(symbol)], precision)
                row_b = _row(records, row_index[at(symbol + stride)], precision)
                row_c = _row(records, row_index[at(symbol + 2 * stride)], precision)
                row_d = row_e = row_f = row_g = row_h = row_c
                if count > 3:
                    row_d = _row(records, row_index[at(symbol + 3 * stride)], precision)
                if most > 4:
                    row_e = _row(records, row_index[at(symbol + 4 * stride)], precision)
                    row_f = _row(records, row_index[at(symbol + 5 * stride)], precision)
                    row_g = _row(records, row_index[at(symbol + 6 * stride)], precision)
                    row_h = _row(records, row_index[at(symbol + 7 * stride)], precision)
                guess_a = _look_up(a, row_a, precision, hints)
                guess_b = _look_up(b, row_b, precision, hints)
                guess_c = _look_up(c, row_c, precision, hints)
                guess_d = guess_e = guess_f = guess_g = guess_h = guess_c
                if count > 3:
                    guess_d = _look_up(d, row_d, precision, hints)
                if most > 4:
                    guess_e = _look_up(e, row_e, precision, hints)
                    guess_f = _look_up(f, row_f, precision, hints)
                    guess_g = _look_up(g, row_g, precision, hints)
                    guess_h = _look_up(h, row_h, precision, hints)
                # What waits for a long row's tables would fill the processor's queues with four units' steps.
                if most > 4 and precision - row_a[4] > _SHORT_ROW_BITS:
                    prefetch(bounds, 2 * guess_a[1], 0)
                    prefetch(bounds, 2 * guess_b[1], 0)
                    prefetch(bounds, 2 * guess_c[1], 0)
                    prefetch(bounds, 2 * guess_d[1], 0)
                    prefetch(bounds, 2 * guess_e[1], 0)
                    prefetch(bounds, 2 * guess_f[1], 0)
                    prefetch(bounds, 2 * guess_g[1], 0)
                    prefetch(bounds, 2 * guess_h[1], 0)
                a, index_a = _step(a, row_a, guess_a, precision, bounds, intervals, not own_rows)
                b, index_b = _step(b, row_b, guess_b, precision, bounds, intervals, not own_rows)
                c, index_c = _step(c, row_c, guess_c, precision, bounds, intervals, not own_rows)
                if count > 3:
                    d, index_d = _step(d, row_d, guess_d, precision, bounds, intervals, not own_rows)
                if most > 4:
                    e, index_e = _step(e, row_e, guess_e, precision, bounds, intervals, not own_rows)
                    f, index_f = _step(f, row_f, guess_f, precision, bounds, intervals, not own_rows)
                    g, index_g = _step(g, row_g, guess_g, precision, bounds, intervals, not own_rows)
                    h, index_h = _step(h, row_h, guess_h, precision, bounds, intervals, not own_rows)
                # Behind all searches: a branch of one that was mispredicted throws away what was begun later.
                a, integer = _finish(payload, a, row_a, index_a, symbol)
                integers[0, symbol - block] = integer
                b, integer = _finish(payload, b, row_b, index_b, symbol)
                integers[1, symbol - block] = integer
                c, integer = _finish(payload, c, row_c, index_c, symbol)
                integers[2, symbol - block] = integer
                if count > 3:
                    d, integer = _finish(payload, d, row_d, index_d, symbol)
                    integers[3, symbol - block] = integer
                if most > 4:
                    e, integer = _finish(payload, e, row_e, index_e, symbol)
                    integers[4, symbol - block] = integer
                    f, integer = _finish(payload, f, row_f, index_f, symbol)
                    integers[5, symbol - block] = integer
                    g, integer = _finish(payload, g, row_g, index_g, symbol)
                    integers[6, symbol - block] = integer
                    h, integer = _finish(payload, h, row_h, index_h, symbol)
                    integers[7, symbol - block] = integer
            for lane in range(count):
                written[lane] |= write_elements(
                    integers[lane, : block_end - block],
                    elements,
                    element,
                    first + lane * symbols + block,
                    offsets,
                    first_offset + lane * offset_stride + block,
                )
        statuses[0], positions[0] = _close(payload, a, sanity_check)
        statuses[1], positions[1] = _close(payload, b, sanity_check)
        statuses[2], positions[2] = _close(payload, c, sanity_check)
        if count > 3:
            statuses[3], positions[3] = _close(payload, d, sanity_check)
        if most > 4:
            statuses[4], positions[4] = _close(payload, e, sanity_check)
            statuses[5], positions[5] = _close(payload, f, sanity_check)
            statuses[6], positions[6] = _close(payload, g, sanity_check)
            statuses[7], positions[7] = _close(payload, h, sanity_check)
        for lane in range(count):
            if statuses[lane] == Status.OK:
                statuses[lane] = written[lane]

    return decode


decode_eight = _decoder(8, own_rows=False)
decode_few = _decoder(4, own_rows=False)
decode_few_with_own_rows = _decoder(4, own_rows=True)
