"""Finds the rows of scales: for each, how many of the table's scales, the last one aside, are below it.

Invariant: rows are those of CompressAI's GaussianConditional.build_indexes, which compares with each scale of
the table in turn.
"""

from __future__ import annotations

import numpy as np
import torch

from entropyd.compressai.tensors import array_of_tensor

_INFINITY = 0x7F80  # the upper 16 bits of a float32


class ScaleLookup:
    """Rows of scales that are positive or NaN, whose row is the last.

    A float32 on the CPU takes two look-ups: its upper 16 bits, which are sign, exponent and 7 bits of the
    mantissa, leave at most one scale of a usual table to compare it with. Others take a binary search.

    Args:
      table: [rows], the scales; they need not be sorted.
    """

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table.clone()
        self._borders = self.table[:-1].sort().values
        borders = array_of_tensor(self._borders).astype(np.float32)
        smallest = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
        self._below = np.searchsorted(borders, smallest).astype(np.int32)
        self._next = np.append(borders, np.float32(np.inf))
        singly = np.diff(self._below[: _INFINITY + 1]).max() <= 1
        self._short = bool(singly) and self.table.dtype == torch.float32

    def rows(self, scales: torch.Tensor) -> torch.Tensor:
        """The rows of scales, int32 of their shape."""
        scales = scales.contiguous()
        if not (self._short and scales.dtype == torch.float32 and scales.device.type == "cpu"):
            # A scale of the table is compared in the dtype of the others, as in the base class.
            return torch.bucketize(scales, self._borders.to(scales), out_int32=True)
        values = array_of_tensor(scales).reshape(-1)
        rows = self._below.take(values.view(np.uint32) >> 16)
        rows += values > self._next.take(rows)
        return torch.from_numpy(rows).reshape(scales.shape)
