"""Coding with a row of each symbol's own and the shared dither of UniversalIndexedEntropyModel.

Source: `UniversalIndexedEntropyModel` of TensorFlow Compression (python/entropy_models/universal.py), whose
dither runs through the whole array: units of n symbols have its elements number * n, number * n + 1, ...
Offsets are those of TFC's int32 indexes. float16 and bfloat16, which TFC cannot code, are widened to float32
and rounded once at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.dither import offset_of_level
from entropyd.contract.errors import InvalidTensorError, Violation
from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.row_choice import add_levels

if TYPE_CHECKING:
    from typing_extensions import Self

# So many noise levels of the beginning of the dither are cached: 4 MiB, or three units of 48x32x192.
_MAX_CACHED_LEVELS = 1 << 20


class UniversalIndexedCodec(IndexedCodec):
    """Codec with num_noise_levels * prod(index_ranges) rows."""

    numbers_units = True

    def __init__(self, *, num_noise_levels: int, **config: Any) -> None:
        self.num_noise_levels = num_noise_levels
        super().__init__(**config)
        self._offset_of_level = kernel_input(offset_of_level(num_noise_levels, self.compute_dtype))
        self._first_levels = noise_levels(0, num_noise_levels)

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        return super().of(config, tables, num_noise_levels=config.num_noise_levels, **own)

    @property
    def row_sets(self) -> int:
        return self.num_noise_levels

    @property
    def nbytes(self) -> int:
        """Grows with the units for which `rows_of` was called."""
        return super().nbytes + self._first_levels.nbytes

    def place(
        self, row_index: npt.NDArray[np.int32], unit_symbols: int, unit_numbers: npt.NDArray[np.int64]
    ) -> npt.NDArray[Any]:
        offsets = np.empty(len(row_index), self.compute_dtype)
        if len(row_index):
            levels = kernel_input(self._levels(unit_symbols, unit_numbers))
            add_levels(row_index, levels, self.index_rows, self._offset_of_level, offsets)
        return offsets

    def _levels(self, symbols: int, unit_numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The noise levels of all symbols of some units, at least one."""
        first, last = int(unit_numbers.min()), int(unit_numbers.max())
        if first < 0 or (last + 1) * symbols > 1 << 63:
            found = f"has a unit {first if first < 0 else last} of {symbols} elements"
            raise InvalidTensorError.at(
                "unit_numbers", f"{found}; expected an array of at most 2^63 elements"
            )
        in_order = last - first + 1 == len(unit_numbers) and bool((np.diff(unit_numbers) == 1).all())
        if (last + 1) * symbols <= _MAX_CACHED_LEVELS:
            cached = self._cached_levels((last + 1) * symbols)
            if in_order:
                return cached[first * symbols :]
            return cached.reshape(-1, symbols)[unit_numbers].reshape(-1)
        if in_order:
            return noise_levels(len(unit_numbers) * symbols, self.num_noise_levels, first=first * symbols)
        levels = np.empty((len(unit_numbers), symbols), np.int32)
        for unit, number in enumerate(unit_numbers.tolist()):
            levels[unit] = noise_levels(symbols, self.num_noise_levels, first=number * symbols)
        return levels.reshape(-1)

    def _cached_levels(self, count: int) -> npt.NDArray[np.int32]:
        levels = self._first_levels
        if len(levels) < count:
            # Powers of two, so that units that come one by one draw every level twice at most.
            levels = self._first_levels = noise_levels(1 << (count - 1).bit_length(), self.num_noise_levels)
        return levels[:count]

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        if self.num_noise_levels < 1:
            yield Violation("num_noise_levels", f"is {self.num_noise_levels}; expected at least 1")
