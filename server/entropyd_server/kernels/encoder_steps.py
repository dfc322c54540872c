"""Steps that encoders share: finding the interval of a symbol, escapes, what cannot be encoded."""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.elements import BLOCK_SYMBOLS, fetch_elements, is_finite, read_integers
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import MAX_GAMMA_BITS, ROW_FIELDS, Row, Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Uint8s, Uint16s

# Intervals are found so many symbols early. A power of two; long enough to hide a read from the third-level
# cache behind the symbols' coding.
LOOKAHEAD = 16
# The block that is coded and the one after it. Blocks begin at multiples of their length, so that each lies
# in one piece at the symbol's number modulo this.
RING_SYMBOLS = 2 * BLOCK_SYMBOLS
# Records and bounds of no more bytes are nearly always in the second-level cache.
RESIDENT_BYTES = 1 << 18
# Stands in the lookahead for a symbol that is not simply one interval of its row.
SPECIAL = -1

_MAX_MAGNITUDE = (1 << MAX_GAMMA_BITS) - 1


@inlined
def read_block(
    elements: Uint8s,
    element: int,
    first: int,
    offsets: Uint8s,
    first_offset: int,
    block: int,
    block_end: int,
    ring: Int32s,
) -> bool:
    """Reads the symbols [block, block_end) of a unit into the ring; returns whether int32 holds them all."""
    fetch_elements(elements, element, first + block_end, BLOCK_SYMBOLS)
    start = block & (RING_SYMBOLS - 1)
    return read_integers(
        elements,
        element,
        first + block,
        offsets,
        first_offset + block,
        ring[start : start + block_end - block],
    )


@inlined
def find_interval(integer: int, records: Int32s, row_index: int) -> int:
    """Returns the interval of a symbol; SPECIAL for an escape and for what cannot be encoded."""
    row = ROW_FIELDS * int64(row_index)
    interval = int64(integer) - int64(records[at(row + Row.CDF_OFFSET)])
    # Unsigned, so that a negative interval is large.
    if at(interval) >= at(int64(records[at(row + Row.ESCAPE)])):
        return SPECIAL
    return int64(records[at(row + Row.START)]) + interval


@inlined
def escape_of(integer: int, records: Int32s, row_index: int) -> tuple[int, int, int]:
    """Returns interval, magnitude and sign of a symbol outside of its row; magnitude 0 if it is too far."""
    row = ROW_FIELDS * int64(row_index)
    escape = int64(records[at(row + Row.ESCAPE)])
    interval = int64(integer) - int64(records[at(row + Row.CDF_OFFSET)])
    sign = int64(interval < 0)
    magnitude = -interval if sign else interval - escape + 1
    if magnitude > _MAX_MAGNITUDE:
        magnitude = int64(0)
    return int64(records[at(row + Row.START)]) + escape, magnitude, sign


@kernel
def first_failure(
    elements: Uint8s,
    element: int,
    first: int,
    offsets: Uint8s,
    first_offset: int,
    row_index: Int32s,
    records: Int32s,
    bounds: Uint16s,
) -> tuple[int, int]:
    """Returns the status and the position of the first symbol that cannot be encoded; there is one."""
    integers = np.empty(BLOCK_SYMBOLS, np.int32)
    symbols = len(row_index)
    for block in range(0, symbols, BLOCK_SYMBOLS):
        count = min(BLOCK_SYMBOLS, symbols - block)
        holds = read_integers(
            elements, element, first + block, offsets, first_offset + block, integers[:count]
        )
        for symbol in range(block, block + count):
            if not holds and not read_integers(
                elements, element, first + symbol, offsets, first_offset + symbol, integers[:1]
            ):
                finite = is_finite(elements, element, first + symbol)
                return int64(Status.OUT_OF_RANGE if finite else Status.NOT_FINITE), int64(symbol)
            integer = integers[0] if not holds else integers[at(symbol - block)]
            interval = find_interval(integer, records, row_index[at(symbol)])
            if interval == SPECIAL:
                interval, magnitude, _ = escape_of(integer, records, row_index[at(symbol)])
                if magnitude == 0:
                    return int64(Status.OUT_OF_RANGE), int64(symbol)
            if bounds[at(2 * interval)] > bounds[at(2 * interval + 1)]:
                return int64(Status.ZERO_PROBABILITY), int64(symbol)
    return int64(Status.OK), int64(-1)
