"""Coding with one prior for the whole batch, and an offset for each of its elements or none.

Source: `ContinuousBatchedEntropyModel` of TensorFlow Compression
(python/entropy_models/continuous_batched.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.batched import BatchedCodec
from entropyd_server.coding.offsets import OffsetByRow
from entropyd_server.coding.rows import Shape


class ContinuousBatchedCodec(BatchedCodec, OffsetByRow):
    """Codec with prod(prior_shape) rows."""

    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        size = math.prod(self.prior_shape)
        repeats = math.prod(unit_shape) // size
        row_index = np.tile(np.arange(size, dtype=np.int32), repeats)
        if self.kernel_offset is None:
            return row_index, np.zeros(len(row_index), self.compute_dtype)
        return row_index, np.tile(self.kernel_offset, repeats)
