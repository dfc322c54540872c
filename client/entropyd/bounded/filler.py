"""The values that are coded in place of missing ones: the cheapest of each row."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd._model import Model


def filled(model: Model, bottleneck: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """A bottleneck in which masked elements have the value that the model codes in the fewest bits.

    Args:
      model: Its tables are fetched once, if any element is masked.
      bottleneck: Batch axes, then coding_rank axes that end in prior_shape (an axis of length 1 there is
        repeated); of bottleneck_dtype.
      mask: Boolean, of the same shape.

    Returns:
      Array of the same dtype and shape, repeated axes aside.
    """
    if not mask.any():
        return bottleneck
    axes = bottleneck.shape[bottleneck.ndim - len(model.prior_shape) :]
    fits = len(axes) == len(model.prior_shape) and all(
        found in {1, expected} for found, expected in zip(axes, model.prior_shape, strict=True)
    )
    # The server refuses a wrong shape.
    values = _likeliest(model) if fits else np.zeros((), bottleneck.dtype)
    return np.where(mask, values, bottleneck)


@lru_cache(maxsize=16)
def _likeliest(model: Model) -> npt.NDArray[Any]:
    """The value at the mode of each position's row, for the middle noise level if there are several.

    It is 0 without rows: the value that a PowerLaw model codes in the fewest bits.

    Returns:
      Array of bottleneck_dtype and shape prior_shape; read-only.
    """
    if not model.config.has_tables:
        return np.zeros((), model.bottleneck_dtype)
    positions = int(np.prod(model.prior_shape))
    levels = len(model.cdf_offset) // positions
    middle = (levels - 1) // 2
    rows = np.split(model.cdf, np.flatnonzero(model.cdf < 0)[1:])[middle * positions :][:positions]
    offsets = model.cdf_offset[middle * positions :][:positions]
    modes = [int(offset) + _mode(row) for row, offset in zip(rows, offsets, strict=True)]
    dither = (middle + 1) / (levels + 1) - 0.5
    values = np.array(modes, np.float64).reshape(model.prior_shape) + dither
    if model.quantization_offset is not None:
        values += model.quantization_offset
    values = values.astype(model.bottleneck_dtype)
    values.setflags(write=False)
    return values


def _mode(row: npt.NDArray[np.int32]) -> int:
    """Number of the widest interval of a row `-precision, 0, ..., 2^precision`, the escape aside."""
    begins = row[1:][row[1:] < 1 << -int(row[0])]
    return int(np.diff(begins).argmax()) if len(begins) > 1 else 0
