"""Arrays of requests and responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.arrays import array_of
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError
from entropyd.contract.indexes import RowsByIndex, takes_indexes
from entropyd.contract.wire import array_from_message
from entropyd.v1 import types_pb2

# Units after it have numbers of 63 bits too.
_LARGEST_UNIT = 2**62


def bottleneck_array(config: ModelConfig, bottleneck: Any, *, located: bool = False) -> npt.NDArray[Any]:
    """A bottleneck as an array of the model's bottleneck_dtype; only lists of numbers are converted.

    With `located`, it may have the dtype of any bottleneck, and lists are float64: a location is subtracted
    from it before it is rounded.
    """
    if located:
        return array_of("bottleneck", bottleneck, *BOTTLENECK_DTYPES, numbers="float64")
    return array_of("bottleneck", bottleneck, config.bottleneck_dtype)


def check_inputs(config: ModelConfig, indexes: Any, loc: Any) -> RowsByIndex | None:
    """Refuses indexes or a location that a model of this kind does not take, and missing indexes.

    Returns:
      The configuration, if it is one of a model with indexes.
    """
    indexed = config if takes_indexes(config) else None
    if indexed is None and indexes is not None:
        raise InvalidTensorError.at("indexes", f"are given; a {config.kind} model takes none")
    if indexed is not None and indexes is None:
        expected = f"a {config.kind} model picks the row of each element by its index"
        raise InvalidTensorError.at("indexes", f"are missing; {expected}")
    if loc is not None and config.kind != "location_scale_indexed":
        raise InvalidTensorError.at("loc", f"is given; a {config.kind} model takes none")
    return indexed


def check_first_unit(number: int) -> None:
    """Refuses a number that a coding unit cannot have."""
    if not 0 <= number <= _LARGEST_UNIT:
        raise InvalidRequestError.at("first_unit", f"is {number}; expected a number from 0 to 2^62")


def broadcast_bottleneck(array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A bottleneck in the shape of the elements that the indexes belong to."""
    if array.shape == shape:
        return array
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        found = f"has shape {array.shape}; the indexes are those of elements of shape {shape}"
        raise InvalidTensorError.at("bottleneck", found) from error


def check_finite(array: npt.NDArray[Any], field: str) -> None:
    """Refuses an array of floats that has NaN or infinities; the InvalidTensorError names the first one."""
    finite = np.isfinite(array)
    if not finite.all():
        where = np.unravel_index(int(np.argmin(finite)), array.shape)
        found = f"is {'NaN' if np.isnan(array[where]) else array[where]}; expected finite numbers"
        raise InvalidTensorError.at(f"{field}{[int(axis) for axis in where]}", found)


def tensor_array(tensor: types_pb2.Tensor) -> npt.NDArray[Any]:
    """Reads an array of a response; aligned and read-only."""
    dtype, elements = array_from_message(tensor, "tensor")
    if not elements.flags.aligned:  # a view of the received message; NumPy is slow with these
        elements = elements.copy()
        elements.setflags(write=False)
    return elements.view(numpy_dtype(dtype)) if dtype == "bfloat16" else elements
