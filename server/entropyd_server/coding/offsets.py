"""A quantization offset for each row, which is subtracted before rounding and added afterwards.

Like TFC, codecs do both in the bottleneck's own dtype, so that one of 16 bits rounds twice.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy.typing as npt

from entropyd.contract.dtypes import narrowed, widened
from entropyd_server.coding.range_codec import RangeCodec
from entropyd_server.coding.rows import Rows


class OffsetByRow(RangeCodec):
    """Codec whose tables may have a quantization offset."""

    @cached_property
    def kernel_offset(self) -> npt.NDArray[Any] | None:
        """[rows], the offset that kernels apply; None without any, and for a bottleneck of 16 bits."""
        return self.tables.quantization_offset if self.compute_dtype == self.bottleneck_dtype else None

    @cached_property
    def _narrow_offset(self) -> npt.NDArray[Any] | None:
        """[rows], the offset that kernels do not apply: that of a bottleneck of 16 bits."""
        return None if self.compute_dtype == self.bottleneck_dtype else self.tables.quantization_offset

    def to_compute(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        wide = widened(values, self.bottleneck_dtype)
        if self._narrow_offset is None:
            return wide
        shifted = wide - self._offset_of_symbols(self._narrow_offset, rows)
        return widened(narrowed(shifted, self.bottleneck_dtype), self.bottleneck_dtype)

    def to_wire(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        narrow = narrowed(values, self.bottleneck_dtype)
        if self._narrow_offset is None:
            return narrow
        shifted = widened(narrow, self.bottleneck_dtype)
        return narrowed(shifted + self._offset_of_symbols(self._narrow_offset, rows), self.bottleneck_dtype)

    @staticmethod
    def _offset_of_symbols(offset: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        """[units, symbols], or [1, symbols] if units share their rows."""
        return offset[rows.row_index].reshape(-1, rows.symbols)
