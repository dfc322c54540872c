"""Conversion between arrays and Tensor messages.

Invariant: converting what `array_from_message` returns gives an equal message again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from entropyd.contract.dtypes import Array, array_dtype_name, element_dtype
from entropyd.contract.errors import InvalidTensorError
from entropyd.v1 import types_pb2

MAX_RANK = 32
# Not counting axes of length 0: NumPy can hold any such shape, and count its bytes in 63 bits.
MAX_ELEMENTS = 2**59

# Version of the layout of a CompressedTensor.
FORMAT_VERSION = 1

_NUMBERS: dict[str, types_pb2.DType] = {
    "float16": types_pb2.D_TYPE_FLOAT16,
    "bfloat16": types_pb2.D_TYPE_BFLOAT16,
    "float32": types_pb2.D_TYPE_FLOAT32,
    "float64": types_pb2.D_TYPE_FLOAT64,
    "int32": types_pb2.D_TYPE_INT32,
    "uint8": types_pb2.D_TYPE_UINT8,
    "uint16": types_pb2.D_TYPE_UINT16,
    "int8": types_pb2.D_TYPE_INT8,
    "int16": types_pb2.D_TYPE_INT16,
}
_ELEMENTS = {name: element_dtype(name) for name in _NUMBERS}
_NAMES: dict[int, str] = {number: name for name, number in _NUMBERS.items()}


# From the name of a dtype to its enum value, and back; None for a value that is unset or unknown.
dtype_number, dtype_name = _NUMBERS.__getitem__, _NAMES.get


def tensor_to_message(array: Array, dtype: str | None = None) -> types_pb2.Tensor:
    """Renders an array; see `tensor_parts`."""
    return types_pb2.Tensor(**tensor_fields(array, dtype))


def tensor_fields(array: Array, dtype: str | None = None) -> dict[str, Any]:
    """The fields of a Tensor, for the constructor of a message around it: a Tensor would be copied there."""
    fields, elements = tensor_parts(array, dtype)
    return {**fields, "data": elements.tobytes()}


def tensor_parts(array: Array, dtype: str | None = None) -> tuple[dict[str, Any], Array]:
    """Renders an array as the fields of a Tensor except `data`, and a contiguous array whose bytes that is.

    Args:
      array: Any shape. A bfloat16 array is either one of the ml_dtypes package or uint16 bit patterns.
      dtype: Name of the dtype, needed for bit patterns; the array's own otherwise.

    Raises:
      InvalidTensorError: If the dtype has no place in a Tensor.
    """
    name = array_dtype_name(array) if dtype is None else dtype
    if name not in _NUMBERS:
        expected = ", ".join(_NUMBERS)
        raise InvalidTensorError.at("tensor", f"has dtype {name}; expected one of {expected}")
    elements = array.view(np.uint16) if array.dtype.kind == "V" else array
    fields = {"dtype": _NUMBERS[name], "shape": array.shape}
    return fields, elements.astype(_ELEMENTS[name], order="C", copy=False)


def array_from_message(tensor: types_pb2.Tensor, field: str) -> tuple[str, Array]:
    """Reads an array of a field, which errors name.

    Returns:
      The dtype's name and a read-only array; uint16 bit patterns for bfloat16.

    Raises:
      InvalidTensorError: If dtype, shape and data do not fit together.
    """
    name = _NAMES.get(tensor.dtype)
    if name is None:
        raise InvalidTensorError.at(f"{field}.dtype", f"is {tensor.dtype}; expected a known dtype")
    shape = shape_from_message(tensor.shape, f"{field}.shape")
    wire = _ELEMENTS[name]
    expected_bytes = prod(shape) * wire.itemsize
    data = tensor.data  # protobuf copies a field of bytes each time that it is read
    if len(data) != expected_bytes:
        found = f"has {len(data)} bytes; expected {expected_bytes} for {name} of shape {shape}"
        raise InvalidTensorError.at(f"{field}.data", found)
    return name, np.frombuffer(data, wire).reshape(shape)


def shape_from_message(axes: Sequence[int], field: str) -> tuple[int, ...]:
    """Reads a shape; raises InvalidTensorError if it has too many axes, a negative one, or too large ones."""
    shape = tuple(axes[:])  # protobuf's containers are slow to iterate over
    if len(shape) > MAX_RANK:
        raise InvalidTensorError.at(field, f"has {len(shape)} axes; expected at most {MAX_RANK}")
    if shape and min(shape) < 0:
        raise InvalidTensorError.at(field, f"is {shape}; expected no negative axis")
    if (prod(shape) or prod(axis or 1 for axis in shape)) > MAX_ELEMENTS:
        raise InvalidTensorError.at(field, f"is {shape}; expected at most 2^59 elements")
    return shape
