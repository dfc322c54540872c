"""Arrays of requests and responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd._info import ModelInfo
from entropyd.contract.arrays import array_of
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.wire import array_from_message
from entropyd.v1 import types_pb2


def bottleneck_array(model: ModelInfo, bottleneck: Any) -> npt.NDArray[Any]:
    """A bottleneck as an array of the model's bottleneck_dtype; only lists of numbers are converted."""
    return array_of("bottleneck", bottleneck, model.config.bottleneck_dtype)


def check_finite(array: npt.NDArray[Any], field: str) -> None:
    """Refuses an array of floats that has NaN or infinities; the InvalidTensorError names the first one."""
    finite = np.isfinite(array)
    if not finite.all():
        where = np.unravel_index(int(np.argmin(finite)), array.shape)
        found = f"is {'NaN' if np.isnan(array[where]) else array[where]}; expected finite numbers"
        raise InvalidTensorError.at(f"{field}{[int(axis) for axis in where]}", found)


def tensor_array(tensor: types_pb2.Tensor) -> npt.NDArray[Any]:
    """Reads an array of a response; read-only."""
    dtype, elements = array_from_message(tensor, "tensor")
    return elements.view(numpy_dtype(dtype)) if dtype == "bfloat16" else elements
