"""Bottleneck dtypes as NumPy arrays; bfloat16, which NumPy lacks, as uint16 bit patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

WIRE_DTYPES: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
BFLOAT16_NAN = 0x7FC0


def widen(values: npt.NDArray[Any], bottleneck_dtype: str) -> npt.NDArray[Any]:
    """Converts float16 and bfloat16 to float32, exactly; returns other values as they are."""
    match bottleneck_dtype:
        case "bfloat16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32)
        case "float16":
            return values.astype(np.float32)
    return values


def narrow(values: npt.NDArray[Any], bottleneck_dtype: str) -> npt.NDArray[Any]:
    """Rounds float32 to float16 or bfloat16, ties to even; returns other values as they are."""
    match bottleneck_dtype:
        case "bfloat16":
            bits = values.view(np.uint32)
            # Half a unit of the last place that stays, less one where that place is even.
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
            return np.where(np.isnan(values), BFLOAT16_NAN, rounded).astype(np.uint16)
        case "float16":
            # Escapes exceed float16's largest number; they round to an infinity, as in TensorFlow.
            with np.errstate(over="ignore"):
                return values.astype(np.float16)
    return values
