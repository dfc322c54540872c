"""What a client needs to send a model's symbols in place of its values: dither and quantization offsets."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd.contract.dither import noise_levels, offset_of_level
from entropyd.contract.dtypes import coding_dtype
from entropyd.contract.symbols import Quantizer
from entropyd.contract.tables import RawTables

Array = npt.NDArray[Any]

# The dither is drawn up to this element, and kept. To draw it in NumPy for a part of an array that is used
# once takes longer than to send floats.
_MAX_DRAWN = 1 << 22
_LEAST_DRAWN = 1 << 12


class Symbols:
    """Makes the quantizers of one model.

    Args:
      config: The model's configuration.
      tables: Its tables, if `needs_tables`.
    """

    def __init__(self, config: ModelConfig, tables: RawTables | None = None) -> None:
        self._config = config
        tables = config.supplied_tables if tables is None else tables
        self._offset_of_row = None if tables is None else tables.quantization_offset
        self._levels: int = getattr(config, "num_noise_levels", 0)

    def of_values(self, elements: Array, rows: Array | None, first_unit: int) -> Array | None:
        """The symbols of an array; None where its values should be sent: the server says what is wrong.

        Args:
          elements: Batch axes, then those of a coding unit, in `element_dtype`.
          rows: The row of each element, of a model whose rows are picked by index.
          first_unit: Number of the first unit.
        """
        batch_axes = max(elements.ndim - self._config.coding_rank, 0)
        unit_shape = elements.shape[batch_axes:]
        numbers = first_unit + np.arange(prod(elements.shape[:batch_axes]))
        if not self.cover(unit_shape, numbers):
            return None
        flat = elements.reshape(len(numbers), prod(unit_shape))
        symbols = self.quantizer(unit_shape, numbers, rows).symbols(flat)
        return None if symbols is None else symbols.reshape(elements.shape)

    def cover(self, unit_shape: tuple[int, ...], numbers: npt.NDArray[np.int64]) -> bool:
        """Whether there is a quantizer for coding units of a shape, with these numbers.

        There is none where the server repeats axes of length 1, or refuses the shape, and beyond the dither
        that is drawn.
        """
        axes = self._config.unit_axes
        if len(unit_shape) != self._config.coding_rank or unit_shape[len(unit_shape) - len(axes) :] != axes:
            return False
        return not self._levels or self._units_drawn(numbers) * prod(unit_shape) <= _MAX_DRAWN

    def quantizer(
        self, unit_shape: tuple[int, ...], numbers: npt.NDArray[np.int64], rows: Array | None
    ) -> Quantizer:
        """The quantizer of coding units that are covered; arguments as above, rows in any shape."""
        dtype, symbols = self._config.bottleneck_dtype, prod(unit_shape)
        if self._levels:
            dither = _drawn(self._levels, coding_dtype(dtype), self._units_drawn(numbers) * symbols)
            if self._config.numbers_units:
                dither = dither.reshape(-1, symbols)[numbers] if symbols else dither.reshape(len(numbers), 0)
            return Quantizer(dtype, dither)
        if self._offset_of_row is None:
            return Quantizer(dtype)
        if rows is None:
            offsets = np.tile(self._offset_of_row, symbols // max(len(self._offset_of_row), 1))
        else:
            offsets = self._offset_of_row[rows.reshape(len(numbers), symbols)]
        return Quantizer(dtype, offsets, rounds_offsets=coding_dtype(dtype) != dtype)

    def _units_drawn(self, numbers: npt.NDArray[np.int64]) -> int:
        """How many units' dither is needed for some: only a model that numbers them has one for each."""
        return int(numbers.max(initial=-1)) + 1 if self._config.numbers_units else 1


def needs_tables(config: ModelConfig) -> bool:
    """Whether tables that only the server has may hold a quantization offset."""
    if config.supplied_tables is not None:
        return False
    given = getattr(config, "quantization_offset", None) is not None
    return given or getattr(config, "offset_heuristic", False)


def _drawn(levels: int, dtype: str, count: int) -> Array:
    """The offsets of the first `count` elements of a dither."""
    size = max(1 << (count - 1).bit_length(), _LEAST_DRAWN) if count else 0
    return _draw(levels, dtype, size)[:count]


@lru_cache(maxsize=4)
def _draw(levels: int, dtype: str, count: int) -> Array:
    return offset_of_level(levels, dtype)[noise_levels(count, levels)]
