"""Coding with one prior for the whole batch, and an offset for each of its elements or none.

Source: `ContinuousBatchedEntropyModel` of TensorFlow Compression
(python/entropy_models/continuous_batched.py). Like TFC, it subtracts and adds the offset in the bottleneck's
own dtype, so that one of 16 bits rounds twice.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.dtypes import coding_dtype, narrowed, widened
from entropyd_server.coding.batched import BatchedCodec

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd_server.coding.rows import Rows, Shape


class ContinuousBatchedCodec(BatchedCodec):
    """Codec with prod(prior_shape) rows."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.compute_dtype = np.dtype(coding_dtype(self.bottleneck_dtype))

    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """See base class."""
        size = math.prod(self.prior_shape)
        repeats = math.prod(unit_shape) // size
        row_index = np.tile(np.arange(size, dtype=np.int32), repeats)
        offset = self.tables.quantization_offset
        if offset is None or self._narrow_offset is not None:
            return row_index, np.zeros(len(row_index), self.compute_dtype)
        return row_index, np.tile(offset, repeats)

    @cached_property
    def _narrow_offset(self) -> npt.NDArray[Any] | None:
        """[rows], the offset that kernels do not apply: that of a bottleneck of 16 bits."""
        return None if self.compute_dtype == self.bottleneck_dtype else self.tables.quantization_offset

    def to_compute(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        """See base class."""
        wide = widened(values, self.bottleneck_dtype)
        if self._narrow_offset is None:
            return wide
        shifted = wide - self._narrow_offset[rows.row_index]
        return widened(narrowed(shifted, self.bottleneck_dtype), self.bottleneck_dtype)

    def to_wire(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        """See base class."""
        narrow = narrowed(values, self.bottleneck_dtype)
        if self._narrow_offset is None:
            return narrow
        shifted = widened(narrow, self.bottleneck_dtype) + self._narrow_offset[rows.row_index]
        return narrowed(shifted, self.bottleneck_dtype)
