"""Coding with a row of each symbol's own, and no offset.

Source: `ContinuousIndexedEntropyModel` and `LocationScaleIndexedEntropyModel` of TensorFlow Compression
(python/entropy_models/continuous_indexed.py). A client subtracts and adds the location of the latter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.indexed import IndexedCodec


class ContinuousIndexedCodec(IndexedCodec):
    """Codec with prod(index_ranges) rows."""

    def place(
        self,
        row_index: npt.NDArray[np.int32],  # noqa: ARG002
        unit_symbols: int,  # noqa: ARG002
        unit_numbers: npt.NDArray[np.int64],  # noqa: ARG002
    ) -> npt.NDArray[Any]:
        return self.no_offsets
