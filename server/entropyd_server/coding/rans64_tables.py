"""What rANS kernels derive from coding tables of precision 16."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.lookup import fill_hints
from entropyd_server.kernels.range_coder import Row
from entropyd_server.kernels.rans64 import DIVIDER, PRECISION, SLOT

# Log2 of the slots for each interval of a row, rounded up: more are right, fewer stay in the caches.
_SLOT_BITS = 2


class Rans64Tables(NamedTuple):
    """Attributes, all read-only.

    rows: int32 [rows, 8], row records, whose hints are in `slots`.
    dividers: `kernels.rans64.DIVIDER` [intervals].
    slots: `kernels.rans64.SLOT` [...].
    """

    rows: npt.NDArray[np.int32]
    dividers: npt.NDArray[np.void]
    slots: npt.NDArray[np.void]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)

    @classmethod
    def of(cls, rows: npt.NDArray[np.int32], bounds: npt.NDArray[np.uint16]) -> Rans64Tables:
        """Derives them from row records and `bounds` as in `CodingTables`."""
        lower, last = bounds[0::2].astype(np.int64), bounds[1::2].astype(np.int64)
        rows, slots = _slots(rows, bounds, lower, last)
        return cls(*(kernel_input(array) for array in (rows, _dividers(lower, last - lower + 1), slots)))


def _dividers(lower: npt.NDArray[np.int64], width: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    by_width = np.zeros((1 << PRECISION) + 1, DIVIDER)
    by_width["complement"] = (1 << PRECISION) - np.maximum(np.arange(len(by_width)), 1)
    by_width[1]["reciprocal"], by_width[1]["bias"] = 2**64 - 1, (1 << PRECISION) - 1
    widths = np.unique(width[width > 1]).tolist()
    shifts = [(number - 1).bit_length() - 1 for number in widths]
    by_width["reciprocal"][widths] = [
        -(-(1 << 64 + shift) // number) for number, shift in zip(widths, shifts, strict=True)
    ]
    by_width["shift"][widths] = shifts
    dividers: npt.NDArray[np.void] = by_width[np.maximum(width, 0)]
    dividers["bias"] += lower.astype(np.uint32)
    return dividers


def _slots(
    rows: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.uint16],
    lower: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.void]]:
    intervals = rows[:, Row.ESCAPE].astype(np.int64) + 1
    bits = np.clip(np.ceil(np.log2(intervals)).astype(np.int64) + _SLOT_BITS, 1, PRECISION)
    rows = rows.copy()
    rows[:, Row.HINT_START] = np.cumsum(1 << bits) - (1 << bits)
    rows[:, Row.HINT_SHIFT] = 64 - bits
    hints = np.empty(int((1 << bits).sum()), np.uint16)
    fill_hints(rows, bounds, PRECISION, hints)
    found = np.repeat(rows[:, Row.START], 1 << bits) + hints
    slots = np.empty(len(hints), SLOT)
    slots["lower"], slots["span"], slots["index"] = lower[found], (last - lower)[found], hints
    return rows, slots
