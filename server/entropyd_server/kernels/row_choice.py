"""Passes over the row of each symbol, before and after coding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.intrinsics import load
from entropyd_server.kernels.jit import at, kernel

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Float64s, Floats, Int32s, Integers


@kernel
def widen_rows(plane: Integers, rows: int, row_index: Int32s) -> bool:
    """Copies chosen rows; returns whether all of them are from 0 to `rows` - 1.

    Args:
      plane: uint8, uint16 or int32 [symbols], at any address.
      rows: Number of rows, at most 2^31.
      row_index: int32 [symbols], written.
    """
    highest = np.uint32(0)
    for symbol in range(len(plane)):
        row = np.int32(load(plane, symbol))
        row_index[at(symbol)] = row
        highest = max(highest, np.uint32(row))
    return bool(highest < rows)


@kernel
def add_levels(
    row_index: Int32s, levels: Int32s, rows_per_level: int, offset_of_level: Floats, offsets: Floats
) -> None:
    """Turns rows of one level into rows of all of them, level major, and looks up the offset of each symbol.

    Args:
      row_index: int32 [symbols], changed in place.
      levels: int32 [symbols], below the length of `offset_of_level`.
      rows_per_level: Rows times levels must fit int32.
      offset_of_level: float32 or float64 [levels].
      offsets: Same dtype [symbols], written.
    """
    for symbol in range(len(row_index)):
        level = levels[at(symbol)]
        row_index[at(symbol)] += level * rows_per_level
        offsets[at(symbol)] = offset_of_level[at(level)]


@kernel
def total_bits(row_index: Int32s, row_bits: Float64s) -> float:
    """Adds up the bits of each symbol's row; four sums at once, as one waits for each of its additions."""
    first = second = third = fourth = 0.0
    whole = len(row_index) & ~3
    for symbol in range(0, whole, 4):
        first += row_bits[at(row_index[at(symbol)])]
        second += row_bits[at(row_index[at(symbol + 1)])]
        third += row_bits[at(row_index[at(symbol + 2)])]
        fourth += row_bits[at(row_index[at(symbol + 3)])]
    for symbol in range(whole, len(row_index)):
        first += row_bits[at(row_index[at(symbol)])]
    return (first + second) + (third + fourth)
