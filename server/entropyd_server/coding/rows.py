"""What picks the table row and the quantization offset of every symbol of a call."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd_server.coding.cache import BytesLRU
from entropyd_server.kernels.jit import kernel_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """The table row and the quantization offset of every symbol, in coding order.

    Invariant: every row exists in the tables of the codec that made them. Kernels do not check it.

    Attributes:
      unit_shape: Dimensions of one coding unit.
      row_index: int32 [symbols] if all units share it, else [units * symbols]; read-only.
      offsets: float32 or float64, as long as `row_index`; read-only.
      unit_stride: How far the rows of a unit lie from those of the unit before: 0 if units share them,
        else the symbols of a unit.
      modelled_bits: Mean bits per symbol that the codec's tables expect; NaN if nobody asked them.
    """

    unit_shape: Shape
    row_index: npt.NDArray[np.int32]
    offsets: npt.NDArray[Any]
    unit_stride: int = 0
    modelled_bits: float = math.nan

    @property
    def symbols(self) -> int:
        """Number of symbols in a coding unit."""
        return self.unit_stride or len(self.row_index)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.row_index.nbytes + self.offsets.nbytes

    def element(self, position: int) -> Shape:
        """Converts a symbol's number in its coding unit to its index there."""
        return tuple(int(index) for index in np.unravel_index(position, self.unit_shape))

    def check_units(self, units: int) -> None:
        """Raises ValueError unless these are the rows of so many units."""
        if self.unit_stride and len(self.row_index) != units * self.unit_stride:
            raise ValueError(f"{len(self.row_index)} rows of {self.unit_stride} symbols for {units} units")

    def of_units(self, start: int, stop: int) -> Rows:
        """Returns the rows of units [start, stop)."""
        if not self.unit_stride:
            return self
        own = slice(start * self.unit_stride, stop * self.unit_stride)
        return Rows(
            self.unit_shape, self.row_index[own], self.offsets[own], self.unit_stride, self.modelled_bits
        )

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """Joins rows of units that do not share them, all of the same number of symbols."""
        return Rows(
            parts[0].unit_shape,
            kernel_input(np.concatenate([part.row_index for part in parts])),
            kernel_input(np.concatenate([part.offsets for part in parts])),
            parts[0].unit_stride,
        )


class RowsCache:
    """The rows of the shapes that were used last, at most `max_shapes` and `max_bytes`; thread-safe.

    Rows that alone exceed `max_bytes` stay until the next shape, because a second unit of their own
    shape is likely.
    """

    def __init__(self, *, max_shapes: int, max_bytes: int) -> None:
        self._rows: BytesLRU[Shape, Rows] = BytesLRU(max_bytes, max_shapes)
        self._building: set[Shape] = set()
        self._lock = threading.Lock()
        self._built = threading.Condition(self._lock)

    @property
    def nbytes(self) -> int:
        """Bytes of all cached rows."""
        return int(self._rows.currsize)

    def cached(self, shape: Shape) -> Rows | None:
        """Returns the rows of a shape if they are cached."""
        with self._lock:
            return self._rows.get(shape)

    def get(self, shape: Shape, build: Callable[[Shape], Rows]) -> Rows:
        """Returns the rows of a shape, and builds them unless they are cached.

        Threads that want rows while they are built wait for them. `build` is an argument and no attribute,
        because the cache's owner, whose method it is, would be part of a reference cycle.
        """
        with self._lock:
            while shape in self._building:
                self._built.wait()
            if (cached := self._rows.get(shape)) is not None:
                return cached
            self._building.add(shape)
        try:
            rows = build(shape)
        except BaseException:
            self._end(shape, None)
            raise
        self._end(shape, rows)
        return rows

    def _end(self, shape: Shape, rows: Rows | None) -> None:
        with self._lock:
            if rows is not None:
                self._rows[shape] = rows
            self._building.remove(shape)
            self._built.notify_all()
