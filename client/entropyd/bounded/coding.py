"""Compression of arrays with elements that are stored exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd._model import Model
from entropyd.archive import ExactElements, MeasuredTensor
from entropyd.bounded.bound import ErrorBound
from entropyd.bounded.filler import filled
from entropyd.bounded.missing import missing_mask


def compress_elements(
    model: Model, data: npt.NDArray[Any], bound: ErrorBound | None, missing: Sequence[float]
) -> tuple[MeasuredTensor, ExactElements]:
    """Compresses an array, and finds the elements to store beside the bit strings.

    Args:
      model: Any; with a bound, one for such data divided by its step.
      data: Shaped as `Model.compress` takes it. With a bound, of the bound's dtype; without one, of
        bottleneck_dtype.
      bound: With a bound, the bit strings are decompressed and compared with the data, so that the bound does
        not rest on arithmetic alone; None compresses the array as it is.
      missing: Values to restore exactly, as `missing_values` gives them; NaN always is.

    Returns:
      The bit strings, and the exact elements of the restored array.

    Raises:
      InvalidTensorError, LimitExceededError: As `Model.compress`.
    """
    absent = missing_mask(data, missing)
    present = np.where(absent, np.zeros((), data.dtype), data) if absent.any() else data
    bottleneck = present if bound is None else bound.bottleneck(present, model.bottleneck_dtype)
    compressed = model.compress(filled(model, bottleneck, absent))
    shape = compressed.batch_shape + compressed.broadcast_shape + model.prior_shape
    data = np.broadcast_to(data, shape)
    if bound is None:
        return compressed, ExactElements.of(data, np.broadcast_to(absent, shape))
    restored = bound.data(model.decompress(compressed))
    return compressed, bound.exact(data, restored, model.config.bottleneck_dtype, missing)
