"""Where decoding begins to look for a symbol, derived from a model's rows.

Owns the contents of buckets and hints. It must not know how the rows were made. Invariant: each entry names
an interval of its row that is not empty, and a pass over the row's intervals finds all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd_server.kernels.jit import int64, kernel
from entropyd_server.kernels.range_coder import Row

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Hints, Int32s, Uint16s


@kernel
def fill_lookup(rows: Int32s, bounds: Uint16s, precision: int, buckets: Uint16s, hints: Hints) -> None:
    """Fills the buckets and hints of all rows.

    The entry of a bucket is the interval that holds its smallest cumulative probability. The entry of a part
    of a row is the interval that holds most of it, the first of equals: so it is right for at least half of a
    part that two intervals share, whichever of them comes first.

    Args:
      rows: int32 [rows, ROW_FIELDS], row records.
      bounds: uint16 [2 * intervals], first and last cumulative probability of every interval.
      precision: 1 to 16.
      buckets: uint16 [...], written.
      hints: uint8 or uint16 [...], written.
    """
    total = 1 << precision
    for row in range(len(rows)):
        record = rows[row]
        start = int64(record[Row.START])

        interval = int64(0)
        shift = int64(record[Row.BUCKET_SHIFT])
        for bucket in range(total >> shift):
            q = bucket << shift
            while not int64(bounds[2 * (start + interval)]) <= q <= int64(bounds[2 * (start + interval) + 1]):
                interval += 1
            buckets[record[Row.BUCKET_START] + bucket] = interval

        interval = int64(buckets[record[Row.BUCKET_START]])
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
