"""Codecs of models whose rows are chosen by indexes that the caller sends."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidTensorError, Violation
from entropyd_server.coding.rows import Rows, Shape
from entropyd_server.coding.table_codec import TableCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.row_choice import widen_rows

if TYPE_CHECKING:
    from typing_extensions import Self


_INT32_BYTES = 4


class IndexedCodec(TableCodec, ABC):
    """Codec of a model with indexes, whose units have rows of their own.

    Attributes:
      no_offsets: The offsets of symbols that have none.
    """

    index_rows: int

    def __init__(self, *, index_ranges: Sequence[int], **common: Any) -> None:
        self.index_rows = math.prod(index_ranges)
        super().__init__(**common)
        self.no_offsets = kernel_input(np.empty(0, self.compute_dtype))

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        return super().of(config, tables, index_ranges=config.index_ranges, **own)

    @property
    def row_sets(self) -> int:
        """How often the tables have `index_rows` rows."""
        return 1

    @abstractmethod
    def place(
        self, row_index: npt.NDArray[np.int32], unit_symbols: int, unit_numbers: npt.NDArray[np.int64]
    ) -> npt.NDArray[Any]:
        """The offset of each symbol of units, as in `Rows`; moves `row_index` to the tables' rows in place.

        Raises:
          InvalidTensorError: Units have numbers that no array has.
        """

    def rows_of(
        self, plane: npt.NDArray[Any], unit_shape: Shape, unit_numbers: npt.NDArray[np.int64]
    ) -> Rows:
        """Checks the rows that a caller chose for the symbols of coding units.

        Args:
          plane: uint8, uint16 or int32 [units, symbols].
          unit_shape: Dimensions of a coding unit.
          unit_numbers: int64 [units], the number of each in the whole array; of no effect unless
            `numbers_units`.

        Raises:
          InvalidTensorError: An element is no row of the model, or a unit has a number that no array has.
          ValueError: The plane has another dtype.
        """
        if plane.dtype.itemsize > _INT32_BYTES:  # would be cut to 32 bits
            raise ValueError(f"the plane is {plane.dtype}; expected uint8, uint16 or int32")
        row_index = np.empty(plane.size, np.int32)
        if not widen_rows(kernel_input(plane.ravel()), self.index_rows, row_index):
            raise self._no_row(plane, unit_shape, unit_numbers)
        offsets = self.place(row_index, plane.shape[1], unit_numbers)
        row_index.setflags(write=False)
        if len(offsets):
            offsets.setflags(write=False)
        return Rows(unit_shape, row_index, offsets, plane.shape[1], self.row_bits)

    def _no_row(
        self, plane: npt.NDArray[Any], unit_shape: Shape, unit_numbers: npt.NDArray[np.int64]
    ) -> InvalidTensorError:
        """Names the first element that is no row of the model; there is one."""
        wrong = int(np.argmax(((plane < 0) | (plane >= self.index_rows)).reshape(-1)))
        unit, symbol = divmod(wrong, plane.shape[1])
        element = tuple(int(index) for index in np.unravel_index(symbol, unit_shape))
        where = f"coding unit {unit_numbers[unit]}, element {element}"
        found = f"{where}: {plane[unit, symbol]} is no row of the model"
        return InvalidTensorError.at("indexes", f"{found}; expected 0 to {self.index_rows - 1}")

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        rows, expected = len(self.tables.cdf_offset), self.row_sets * self.index_rows
        if rows != expected:
            times = f"{self.row_sets} times the {self.index_rows} of index_ranges"
            yield Violation("cdf", f"has {rows} rows; expected {expected}, {times}")
