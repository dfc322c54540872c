"""What picks the table row and the quantization offset of every symbol of a call."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.cache import BytesLRU
from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.row_choice import total_bits

Shape = tuple[int, ...]

_MAX_SHAPES = 16
_MAX_ROWS_BYTES = 64 * 2**20


# Not frozen, because every call with indexes makes one: that would take three times as long.
@dataclass(eq=False)
class Rows:
    """The table row and the quantization offset of every symbol, in coding order. Never changed.

    Invariant: every row exists in the tables of the codec that made them. Kernels do not check it.

    Attributes:
      unit_shape: Dimensions of one coding unit.
      row_index: int32 [symbols] if all units share it, else [units * symbols]; empty for a model without
        tables; read-only.
      offsets: float32 or float64, as long as `row_index`, or empty if all are 0; read-only.
      unit_stride: How far the rows of a unit lie from those of the unit before: 0 if units share them,
        else the symbols of a unit.
      row_bits: float64, what the tables expect a symbol of each of their rows to cost; None if unknown.
    """

    unit_shape: Shape
    row_index: npt.NDArray[np.int32]
    offsets: npt.NDArray[Any]
    unit_stride: int = 0
    row_bits: npt.NDArray[np.float64] | None = None

    @property
    def symbols(self) -> int:
        """Of a coding unit."""
        return math.prod(self.unit_shape)

    @cached_property
    def modelled_bits(self) -> float:
        """Mean bits per symbol that the codec's tables expect; NaN if unknown."""
        if self.row_bits is None:
            return math.nan
        symbols = len(self.row_index)
        return total_bits(self.row_index, self.row_bits) / symbols if symbols else 0.0

    @cached_property
    def offset_bytes(self) -> npt.NDArray[np.uint8]:
        """`offsets` as kernels take them."""
        return kernel_bytes(self.offsets)

    @property
    def nbytes(self) -> int:
        return self.row_index.nbytes + self.offsets.nbytes

    def element(self, position: int) -> Shape:
        """The index of a symbol in its coding unit."""
        return tuple(int(index) for index in np.unravel_index(position, self.unit_shape))

    def check_values(self, values: npt.NDArray[Any]) -> None:
        """Raises ValueError unless these are the rows of values [units, symbols]."""
        units, symbols = values.shape
        if symbols != self.symbols:
            raise ValueError(f"units have {symbols} symbols, the rows have {self.symbols}")
        self.check_units(units)

    def check_units(self, units: int) -> None:
        """Raises ValueError unless these are the rows of so many units."""
        if self.unit_stride and len(self.row_index) != units * self.unit_stride:
            raise ValueError(f"{len(self.row_index)} rows of {self.unit_stride} symbols for {units} units")

    def of_units(self, start: int, stop: int) -> Rows:
        if not self.unit_stride:
            return self
        own = slice(start * self.unit_stride, stop * self.unit_stride)
        return replace(self, row_index=self.row_index[own], offsets=self.offsets[own])

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """Joins rows of units that do not share them, all of the same number of symbols."""
        return replace(
            parts[0],
            row_index=kernel_input(np.concatenate([part.row_index for part in parts])),
            offsets=kernel_input(np.concatenate([part.offsets for part in parts])),
        )


class RowsCache:
    """The rows of the shapes that were used last, at most `max_shapes` and `max_bytes`; thread-safe.

    Rows that alone exceed `max_bytes` stay until the next shape, because a second unit of theirs is likely.
    """

    def __init__(self, *, max_shapes: int, max_bytes: int) -> None:
        self._rows: BytesLRU[Shape, Rows] = BytesLRU(max_bytes, max_shapes)
        self._building: set[Shape] = set()
        self._lock = threading.Lock()
        self._built = threading.Condition(self._lock)

    @property
    def nbytes(self) -> int:
        return int(self._rows.currsize)

    def cached(self, shape: Shape) -> Rows | None:
        with self._lock:
            return self._rows.get(shape)

    def get(self, shape: Shape, build: Callable[[Shape], Rows]) -> Rows:
        """The rows of a shape, built unless they are cached or another thread builds them.

        `build` is no attribute, because it is a method of the cache's owner: that would be a reference cycle.
        """
        with self._lock:
            while shape in self._building:
                self._built.wait()
            if (cached := self._rows.get(shape)) is not None:
                return cached
            self._building.add(shape)
        rows = None
        try:
            rows = build(shape)
        finally:
            with self._lock:
                if rows is not None:
                    self._rows[shape] = rows
                self._building.remove(shape)
                self._built.notify_all()
        return rows


class RowsByShape(ABC):
    """A codec whose rows follow from the shape of a coding unit; it caches those of a few shapes."""

    def __init__(self, **common: Any) -> None:
        self._rows = RowsCache(max_shapes=_MAX_SHAPES, max_bytes=_MAX_ROWS_BYTES)
        super().__init__(**common)

    def rows(self, broadcast_shape: Sequence[int]) -> Rows:
        """The rows of units of a shape.

        Raises:
          InvalidTensorError: The rank is not that of a broadcast shape, or a dimension is negative.
        """
        return self._rows.get(tuple(broadcast_shape), self._build_rows)

    def cached_rows(self, broadcast_shape: Shape) -> Rows | None:
        """What `rows` returns; None if it would have to compute them."""
        return self._rows.cached(broadcast_shape)

    @property
    def nbytes(self) -> int:
        """Grows with the shapes for which `rows` was called."""
        return super().nbytes + self._rows.nbytes  # type: ignore[misc, no-any-return]

    @abstractmethod
    def _build_rows(self, broadcast_shape: Shape) -> Rows:
        """What `rows` returns."""
