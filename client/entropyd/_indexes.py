"""Reads a caller's indexes as TFC's indexed classes do, and makes the plane of rows that is sent.

Indexes are clipped to their ranges in their own dtype, cast to int32 towards zero, and flattened in row-major
order of the ranges (TFC's `_normalize_indexes` and `_flatten_indexes`). Invariants: every row that is
returned is one of the model's; a caller's array is never written to.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.indexes import RowsByIndex, row_dtype
from entropyd.contract.prior import Prior

Array = npt.NDArray[Any]

_HALVES = ("float16", "bfloat16")
_INT32_MAX = 2**31 - 1


def row_plane(config: RowsByIndex, indexes: Any) -> Array:
    """The row of each element, in the narrowest dtype for the model.

    Args:
      config: The model's.
      indexes: Integers or floats, an array or nested lists; shaped as the model's class takes them, that is
        as the bottleneck, and with one index for each range along the channel axis if there is one.

    Returns:
      Array of the shape of the indexes without their channel axis; may be the caller's own array.

    Raises:
      InvalidTensorError: If their shape or dtype is wrong, or one is NaN; names it.
    """
    array = _comparable(_read(config, indexes))
    ranges, axis = config.index_ranges, config.channel_axis
    dtype = row_dtype(prod(ranges))
    if axis is None:
        return _clipped(array, ranges[0], dtype)
    channels = np.moveaxis(array, axis, 0)
    if len(ranges) == 1:
        return _clipped(channels[0], ranges[0], dtype)
    rows: Array = np.zeros(channels.shape[1:], dtype)
    stride = prod(ranges)
    for channel, length in zip(channels, ranges, strict=True):
        stride //= length
        if length > 1:  # a stride before ranges of 1 may exceed the dtype
            rows += _clipped(channel, length, dtype) * dtype.type(stride)
    return rows


def sent_indexes(config: RowsByIndex, indexes: Any) -> Array:
    """Indexes as Perturb takes them, neither flattened nor cast to integers; see `row_plane`.

    Returns:
      Array of the shape of the indexes, of a dtype that a Tensor has; integers of others are int32, clipped.
    """
    array = _read(config, indexes)
    _comparable(array)
    if array.dtype.kind in "iu" and array.dtype.name not in {"uint8", "uint16", "int32"}:
        return _clipped(array, _INT32_MAX + 1, np.dtype(np.int32))
    return array if array.dtype.itemsize <= np.dtype(np.float64).itemsize else array.astype(np.float64)


def has_index_gradient(config: RowsByIndex, dtype: np.dtype[Any]) -> bool:
    """Whether bits have a gradient with respect to indexes of a dtype."""
    floats = dtype.kind == "f" or dtype.name == "bfloat16"
    return floats and _has_function(config.needed_prior)


def _has_function(prior: Prior) -> bool:
    return any(
        isinstance(value, IndexFunction) or (isinstance(value, Prior) and _has_function(value))
        for value in prior.parameters.values()
    )


def _read(config: RowsByIndex, indexes: Any) -> Array:
    """The caller's numbers; lists of floats are float32, as they are to TensorFlow."""
    array, found = read_array("indexes", indexes)
    if not found and array.dtype.kind == "f":
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise InvalidTensorError.at("indexes", f"have dtype {array.dtype.name}; expected integers or floats")
    _check_shape(config, array.shape)
    return array


def plane_shape(config: RowsByIndex, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the elements that indexes of some shape belong to; errors as of `row_plane`."""
    _check_shape(config, shape)
    axis = config.channel_axis
    if axis is None:
        return shape
    place = axis % len(shape)
    return shape[:place] + shape[place + 1 :]


def _check_shape(config: RowsByIndex, shape: tuple[int, ...]) -> None:
    axis, channels = config.channel_axis, len(config.index_ranges)
    least = config.coding_rank
    found = f"have shape {shape}"
    if axis is not None:
        least = max(least + 1, axis + 1, -axis)
    if len(shape) < least:
        beside = "" if axis is None else f" and channel_axis {axis}"
        expected = f"coding_rank {config.coding_rank}{beside} need at least {least} axes"
        raise InvalidTensorError.at("indexes", f"{found}; {expected}")
    if axis is not None and shape[axis] != channels:
        expected = f"expected length {channels} along channel_axis {axis}, one for each of index_ranges"
        raise InvalidTensorError.at("indexes", f"{found}; {expected}")


def _comparable(array: Array) -> Array:
    """Indexes without NaN, halves widened: NumPy is slow with them."""
    if array.dtype.name in _HALVES:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
        where = np.unravel_index(int(np.argmax(np.isnan(array))), array.shape)
        element = [int(place) for place in where]
        raise InvalidTensorError.at(f"indexes{element}", "is NaN; expected a number")
    return array


def _clipped(indexes: Array, length: int, dtype: np.dtype[Any]) -> Array:
    """Integers and floats without NaN, clipped to [0, length - 1] and cast towards zero."""
    if not indexes.size or _are_within(indexes, length - 1):
        return indexes.astype(dtype, copy=False)
    kind: Any = indexes.dtype.type
    if indexes.dtype.kind in "iu":
        last = kind(min(length - 1, np.iinfo(kind).max))
    else:
        last = kind(length - 1)
        if last > length - 1:  # rounded up
            last = np.nextafter(last, kind(0))
    return np.clip(indexes, kind(0), last).astype(dtype)


def _are_within(indexes: Array, last: int) -> bool:
    """Whether all of them are from 0 to `last`: what almost every call sends, so it is checked first."""
    if indexes.dtype.kind == "i":
        # Negative numbers are the largest ones of the unsigned dtype.
        last = min(last, np.iinfo(indexes.dtype).max)
        indexes = indexes.view(indexes.dtype.str.replace("i", "u"))
    if indexes.dtype.kind == "f" and not indexes.min() >= 0:
        return False
    return bool(indexes.max() <= last)
