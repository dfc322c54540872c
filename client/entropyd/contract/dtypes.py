"""Data types of arrays by name, and bfloat16, which NumPy lacks.

Inside entropyd a bfloat16 array is the uint16 array of its bit patterns, and the dtype's name travels beside
it. Only arrays that a caller hands in or gets back are of the ml_dtypes package.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

BOTTLENECK_DTYPES = ("float16", "bfloat16", "float32", "float64")

BFLOAT16_NAN = 0x7FC0
# NumPy puts a dtype's name together at each access.
_NAMES = {
    np.dtype(name): name
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16")
}


def dtype_name(dtype: Any) -> str:
    """Name of a dtype given as a name, a NumPy dtype or scalar type, or another library's dtype."""
    if dtype is None:
        return "float32"
    if isinstance(dtype, str):
        return dtype
    name = getattr(dtype, "name", None)
    if isinstance(name, str):
        return name
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)


def array_dtype_name(array: Array) -> str:
    """Name of an array's dtype."""
    return _NAMES.get(array.dtype) or array.dtype.name


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name, as callers see it; raises ImportError for bfloat16 without ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError("bfloat16 arrays need the ml_dtypes package: pip install ml_dtypes") from error
    return np.dtype(ml_dtypes.bfloat16)


def element_dtype(name: str) -> np.dtype[Any]:
    """The little-endian NumPy dtype of the elements inside entropyd: uint16 for bfloat16."""
    return np.dtype("<u2") if name == "bfloat16" else np.dtype(name).newbyteorder("<")


def coding_dtype(name: str) -> str:
    """Name of the dtype to which an array of 16 bits is widened: float32; other dtypes stay."""
    return "float32" if name in {"float16", "bfloat16"} else name


def widened(elements: Array, name: str) -> Array:
    """Elements of `element_dtype(name)` in `coding_dtype(name)`, exactly."""
    if name == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        return np.asarray(elements.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return elements.astype(np.float32) if name == "float16" else elements


def narrowed(values: Array, name: str) -> Array:
    """Values of `coding_dtype(name)` in `element_dtype(name)`.

    They are rounded to the nearest, ties to even, and infinite beyond the dtype's range.
    """
    if name == "bfloat16":
        bits = values.view(np.uint32)
        # Half a unit of the last place that is kept, less one where that place is even.
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(values), BFLOAT16_NAN, rounded).astype(np.uint16)
    if name == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    return values


def are_finite(elements: Array, name: str) -> npt.NDArray[np.bool_]:
    """Which elements are neither NaN nor infinite; `elements` are of `element_dtype(name)`."""
    if name == "bfloat16":
        elements = widened(elements, name)
    finite: npt.NDArray[np.bool_] = np.isfinite(elements)
    return finite
