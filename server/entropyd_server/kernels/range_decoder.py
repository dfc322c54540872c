"""Range decoding: bit strings to coding units.

`kernels.range_coder` describes the bit stream. Invariant: for every byte string the kernel ends within the
bound below and leaves one status per coding unit; a unit that fails changes no value of another.

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

Speed. Each symbol waits for the one before: division, two table reads, a product, some 36 cycles. For a
single unit `kernels.single_decoder` takes the division out of that chain; the chains of several units overlap
in `kernels.interleaved_decoder`.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd_server.kernels.elements import blank
from entropyd_server.kernels.interleaved_decoder import (
    GROUPS,
    decode_eight,
    decode_few,
    decode_few_with_own_rows,
)
from entropyd_server.kernels.jit import int64, kernel
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.single_decoder import decode_far

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Hints, Int32s, Int64s, Records, Uint8s, Uint16s, Uint32s


@kernel
def decode_units(
    payload: Uint8s,
    lengths: Uint32s,
    symbols: int,
    row_index: Int32s,
    unit_stride: int,
    rows: Int32s,
    bounds: Uint16s,
    hints: Hints,
    intervals: Records,
    precision: int,
    sanity_check: bool,
    elements: Uint8s,
    element: int,
    offsets: Uint8s,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes one string per unit, laid one after the other in `payload`.

    Args:
      payload: uint8 [bytes], at least the sum of `lengths`.
      lengths: uint32 [units].
      symbols: Of each unit.
      row_index: int32, row of every symbol: [symbols] for all units, or [units * symbols]. It must be below
        the number of rows.
      unit_stride: 0 if all units share `row_index`, else `symbols`.
      rows: int32 [rows, ROW_FIELDS], row records.
      bounds: uint16 [2 * intervals], first and last cumulative probability of every interval.
      hints: uint8 or uint16 [...], where an interval is looked for first.
      intervals: `single_decoder.INTERVAL` [intervals].
      precision: 1 to 16.
      sanity_check: Whether a unit must end as an encoder would have ended it.
      elements: uint8, the bytes of elements [units, symbols], written; NaN or 0 throughout a unit that
        failed. See `kernels.elements`.
      element: An Element.
      offsets: uint8, the bytes of the quantization offset of every symbol, floats like the elements: as many
        as elements, or those of one unit for all; empty without any.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: first element that failed; -1 if none did or the end is wrong.
    """
    units = len(lengths)
    records = rows.reshape(-1)
    offset_stride = symbols if len(offsets) == len(elements) else int64(0)
    begin = int64(0)
    unit = 0
    while unit < units:
        lanes = units - unit
        if lanes >= GROUPS[0] and not unit_stride:
            lanes = GROUPS[0]
        elif lanes >= GROUPS[2]:
            lanes = min(lanes, GROUPS[1])
        else:
            lanes = 1
        unit_rows = row_index[unit * unit_stride : len(row_index)]
        together = slice(unit, unit + lanes)
        # fmt: off
        if lanes == 1:
            statuses[unit], positions[unit] = decode_far(
                payload, begin, begin + int64(lengths[unit]), unit_rows[:symbols], rows, hints, intervals,
                sanity_check, elements, element, unit * symbols, offsets, unit * offset_stride,
            )
        elif lanes == GROUPS[0]:
            decode_eight(
                payload, begin, lengths[together], unit_rows, unit_stride, records, bounds, hints, intervals,
                precision, sanity_check, elements, element, symbols, unit * symbols, offsets,
                unit * offset_stride, offset_stride, statuses[together], positions[together],
            )
        elif unit_stride:
            decode_few_with_own_rows(
                payload, begin, lengths[together], unit_rows, unit_stride, records, bounds, hints, intervals,
                precision, sanity_check, elements, element, symbols, unit * symbols, offsets,
                unit * offset_stride, offset_stride, statuses[together], positions[together],
            )
        else:
            decode_few(
                payload, begin, lengths[together], unit_rows, unit_stride, records, bounds, hints, intervals,
                precision, sanity_check, elements, element, symbols, unit * symbols, offsets,
                unit * offset_stride, offset_stride, statuses[together], positions[together],
            )
        # fmt: on
        for decoded in range(unit, unit + lanes):
            begin += int64(lengths[decoded])
            if statuses[decoded] != Status.OK:
                blank(elements, element, decoded * symbols, symbols)
        unit += lanes
