"""The location of a LocationScaleIndexedEntropyModel, which is subtracted before coding and added after it.

Arithmetic is that of TFC's LocationScaleIndexedEntropyModel with NumPy arrays: the difference is computed in
the dtype that NumPy promotes both to, and then rounded to bottleneck_dtype; the location is rounded to that
dtype before it is added. In half precision each operation rounds once. Invariant: a caller's array is never
written to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd._arrays import check_finite
from entropyd.contract.arrays import array_of, read_array
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from entropyd.contract.errors import InvalidTensorError

Array = npt.NDArray[Any]


def less_location(bottleneck: Any, loc: Any, bottleneck_dtype: str, *, in_place: bool) -> Array:
    """The difference of a bottleneck and its location.

    Args:
      bottleneck: An array of floats of any dtype of bottlenecks, or nested lists, which are float64.
      loc: Finite numbers, an array or nested lists; either is broadcast to the other. A single number has
        the bottleneck's dtype, as it has in NumPy.
      bottleneck_dtype: Name of the result's dtype.
      in_place: Whether the difference is rounded to the bottleneck's own dtype first: TFC's `compress`
        subtracts in place, its `__call__` does not.

    Raises:
      InvalidTensorError: If either is anything else, or they do not fit together.
    """
    array = array_of("bottleneck", bottleneck, *BOTTLENECK_DTYPES, numbers="float64")
    location = location_array(loc)
    if not location.ndim:
        location = _rounded(location, array.dtype)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is coded
            difference = np.asarray(array - location)
    except ValueError as error:
        found = f"has shape {location.shape}; expected one that fits to the bottleneck's, {array.shape}"
        raise InvalidTensorError.at("loc", found) from error
    if in_place:
        difference = _rounded(difference, array.dtype)
    return _rounded(difference, numpy_dtype(bottleneck_dtype))


def plus_location(values: Array, loc: Any) -> Array:
    """Restored values and their location, in the values' dtype; read-only.

    Raises:
      InvalidTensorError: If the location is no array of finite numbers, or does not fit to the values.
    """
    location = _rounded(location_array(loc), values.dtype)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            located = np.asarray(values + location)
    except ValueError as error:
        found = f"has shape {location.shape}; expected one that fits to the values', {values.shape}"
        raise InvalidTensorError.at("loc", found) from error
    located.setflags(write=False)
    return located


def location_array(loc: Any) -> Array:
    """A location as an array of finite numbers."""
    array, _ = read_array("loc", loc)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise InvalidTensorError.at("loc", f"has dtype {array.dtype.name}; expected numbers")
    check_finite(array, "loc")
    return array


def summed_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """A gradient by an array that was broadcast, as the gradient by the array before."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    repeated = [axis + added for axis, length in enumerate(shape) if length != gradient.shape[axis + added]]
    wide = gradient.astype(np.float64) if gradient.dtype.itemsize < np.dtype(np.float64).itemsize else gradient
    summed = wide.sum(axis=(*range(added), *repeated)).reshape(shape)
    return _rounded(summed, gradient.dtype)


def _rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)
