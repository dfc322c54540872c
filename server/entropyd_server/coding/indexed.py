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

if TYPE_CHECKING:
    from typing_extensions import Self


class IndexedCodec(TableCodec, ABC):
    """Codec of a model with indexes, whose units have rows of their own."""

    index_rows: int

    def __init__(self, *, index_ranges: Sequence[int], **common: Any) -> None:
        self.index_rows = math.prod(index_ranges)
        super().__init__(**common)

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
        """
        self._check(plane, unit_shape, unit_numbers)
        row_index = plane.astype(np.int32).reshape(-1)
        offsets = self.place(row_index, plane.shape[1], unit_numbers)
        row_index.flags.writeable = offsets.flags.writeable = False
        return Rows(unit_shape, row_index, offsets, plane.shape[1], self.row_bits)

    def _check(self, plane: npt.NDArray[Any], unit_shape: Shape, unit_numbers: npt.NDArray[np.int64]) -> None:
        if not plane.size or (plane.dtype.kind == "u" and self.index_rows >> 8 * plane.itemsize):
            return
        if plane.max() < self.index_rows and (plane.dtype.kind == "u" or plane.min() >= 0):
            return
        wrong = int(np.argmax(((plane < 0) | (plane >= self.index_rows)).reshape(-1)))
        unit, symbol = divmod(wrong, plane.shape[1])
        element = tuple(int(index) for index in np.unravel_index(symbol, unit_shape))
        where = f"coding unit {unit_numbers[unit]}, element {element}"
        found = f"{where}: {plane[unit, symbol]} is no row of the model"
        raise InvalidTensorError.at("indexes", f"{found}; expected 0 to {self.index_rows - 1}")

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        rows, expected = len(self.tables.cdf_offset), self.row_sets * self.index_rows
        if rows != expected:
            times = f"{self.row_sets} times the {self.index_rows} of index_ranges"
            yield Violation("cdf", f"has {rows} rows; expected {expected}, {times}")
