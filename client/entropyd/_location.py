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
from entropyd.contract.arrays import read_array
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.errors import InvalidTensorError

Array = npt.NDArray[Any]


def location_array(loc: Any) -> Array:
    """A location as an array of finite numbers; InvalidTensorError if it is anything else."""
    array, _ = read_array("loc", loc)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise InvalidTensorError.at("loc", f"has dtype {array.dtype.name}; expected numbers")
    check_finite(array, "loc")
    return array


def check_fits(location: Array, shape: tuple[int, ...]) -> None:
    """Refuses a location that cannot be broadcast with an array of some shape."""
    try:
        np.broadcast_shapes(location.shape, shape)
    except ValueError as error:
        found = f"has shape {location.shape}; expected one that broadcasts with {shape}"
        raise InvalidTensorError.at("loc", found) from error


def less_location(bottleneck: Array, location: Array, bottleneck_dtype: str, *, in_place: bool) -> Array:
    """The difference of a bottleneck and its location.

    Args:
      bottleneck: Floats of any dtype of bottlenecks.
      location: Either is broadcast to the other. A single number has the bottleneck's dtype, as in NumPy.
      bottleneck_dtype: Name of the result's dtype.
      in_place: Whether the difference is rounded to the bottleneck's own dtype first: TFC's `compress`
        subtracts in place, its `__call__` does not.

    Raises:
      InvalidTensorError: If they do not fit together.
    """
    check_fits(location, bottleneck.shape)
    if not location.ndim:
        location = _rounded(location, bottleneck.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is coded
        difference = np.asarray(bottleneck - location)
    if in_place:
        difference = _rounded(difference, bottleneck.dtype)
    return _rounded(difference, numpy_dtype(bottleneck_dtype))


def plus_location(values: Array, location: Array) -> Array:
    """Restored values and their location, which fits to them, in the values' dtype; read-only."""
    with np.errstate(over="ignore", invalid="ignore"):
        located = np.asarray(values + _rounded(location, values.dtype))
    located.setflags(write=False)
    return located


def summed_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """A gradient by an array that was broadcast, as the gradient by the array before."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    repeated = [axis + added for axis, length in enumerate(shape) if length != gradient.shape[axis + added]]
    summed = gradient.astype(np.float64).sum(axis=(*range(added), *repeated)).reshape(shape)
    return _rounded(summed, gradient.dtype)


def _rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)
