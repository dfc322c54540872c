"""What the tables of a model expect a symbol to cost, for comparison with the actual rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.range_coder import Row

# An escape is followed by at least one bit of magnitude and one of sign.
_ESCAPE_BITS = 2


def row_bits(tables: CodingTables) -> npt.NDArray[np.float64]:
    """float64 [rows], the expected bits of a symbol drawn from each row: entropy, and the shortest escape."""
    total = 1 << tables.precision
    cdf = tables.cdf
    # One logarithm for each possible width, as there may be millions of intervals.
    probability = np.arange(total + 1) / total
    cost = np.zeros(total + 1)
    cost[1:] = -probability[1:] * np.log2(probability[1:])
    # Where a row begins, neighbours are of two rows or head and first value: 0, which costs nothing.
    widths = np.where(cdf[:-1] >= 0, np.maximum(np.diff(cdf), 0), 0)
    heads = np.flatnonzero(cdf < 0)
    entropy: npt.NDArray[np.float64] = np.add.reduceat(cost[widths], heads)
    first, last = tables.bounds[0::2].astype(np.int64), tables.bounds[1::2].astype(np.int64)
    escapes = tables.rows[:, Row.START].astype(np.int64) + tables.rows[:, Row.ESCAPE]
    escape_widths = np.maximum(last[escapes] - first[escapes] + 1, 0)
    entropy += _ESCAPE_BITS * probability[escape_widths]
    return entropy
