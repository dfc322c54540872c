"""Where decoding begins to look for a symbol, derived from a model's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd_server.kernels.jit import int64, kernel
from entropyd_server.kernels.range_coder import Row

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Hints, Int32s, Uint16s


@kernel
def fill_hints(rows: Int32s, bounds: Uint16s, precision: int, hints: Hints) -> None:
    """Fills the hints of all rows, each the index in the row of an interval that is not empty.

    The hint of a part of a row is the interval that holds most of it, the first of equals: so it is right
    for at least half of a part that two intervals share, whichever of them comes first.

    Args:
      rows: int32 [rows, ROW_FIELDS], row records.
      bounds: uint16 [2 * intervals], first and last cumulative probability of every interval.
      precision: 1 to 16.
      hints: uint8 or uint16 [...], written.
    """
    total = 1 << precision
    for row in range(len(rows)):
        record = rows[row]
        start = int64(record[Row.START])
        interval = int64(0)
        while bounds[2 * (start + interval)] > bounds[2 * (start + interval) + 1]:
            interval += 1
        parts = 1 << (64 - int64(record[Row.HINT_SHIFT]))
        width = total // parts
        for part in range(parts):
            begin, end = part * width, (part + 1) * width
            longest = int64(0)
            while True:
                lower = int64(bounds[2 * (start + interval)])
                upper = int64(bounds[2 * (start + interval) + 1]) + 1
                length = min(upper, end) - max(lower, begin)
                if length > longest:
                    longest = length
                    hints[record[Row.HINT_START] + part] = interval
                if upper >= end:
                    break  # the next part may begin within it
                interval += 1
