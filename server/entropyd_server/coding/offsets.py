"""A quantization offset for each row, which is subtracted before rounding and added afterwards.

Like TFC, codecs do both in the bottleneck's own dtype, so that one of 16 bits rounds twice.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy.typing as npt

from entropyd.contract.dtypes import narrowed, widened
from entropyd_server.coding.rows import Rows, Shape
from entropyd_server.coding.table_codec import TableCodec


class OffsetByRow(TableCodec):
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
        shifted = wide - _of_symbols(self._narrow_offset, rows, wide.shape)
        return widened(narrowed(shifted, self.bottleneck_dtype), self.bottleneck_dtype)

    def to_wire(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        narrow = narrowed(values, self.bottleneck_dtype)
        if self._narrow_offset is None:
            return narrow
        offset = _of_symbols(self._narrow_offset, rows, narrow.shape)
        shifted = widened(narrow, self.bottleneck_dtype) + offset
        return narrowed(shifted, self.bottleneck_dtype)


def _of_symbols(offset: npt.NDArray[Any], rows: Rows, shape: Shape) -> npt.NDArray[Any]:
    """[symbols] if units share their rows, else of the shape [units, symbols]."""
    own: npt.NDArray[Any] = offset[rows.row_index]
    return own.reshape(shape) if rows.unit_stride else own
