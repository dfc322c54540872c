"""Tensors of torch as arrays of NumPy, and back.

Invariant: a caller's tensor is never written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from entropyd.contract.errors import InvalidTensorError

# Whose integers float32 has, too.
_NARROW = frozenset({torch.bfloat16, torch.float16, torch.float32})
_UINT8_VALUES = 256


def array_of_tensor(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor's numbers, which it may share."""
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def sent_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which integers of a dtype are sent: float32 if it has them all, else float64."""
    return torch.float32 if dtype in _NARROW else torch.float64


def values_to_send(inputs: torch.Tensor, means: torch.Tensor | None) -> npt.NDArray[Any]:
    """What is rounded to symbols: the inputs less their means, in the inputs' own dtype as in CompressAI.

    Returns:
      Array [N, C, H, W] of float32 or float64; tensors of other ranks are reshaped.
    """
    values = inputs.detach()
    if means is not None:
        values = values.clone(memory_format=torch.contiguous_format)
        values -= means.detach()
    array = array_of_tensor(values.to("cpu", sent_dtype(inputs.dtype)))
    return array.reshape(_four_axes(inputs.shape))


def rows_to_send(indexes: torch.Tensor, rows: int) -> npt.NDArray[Any]:
    """The row of each symbol, shaped as by `values_to_send`.

    Raises:
      InvalidTensorError: If one is not from 0 to `rows` - 1; names it.
    """
    integers = indexes.detach()
    if integers.dtype.is_floating_point:
        integers = integers.int()
    if integers.numel():
        lowest, highest = integers.aminmax()
        if lowest < 0 or highest >= rows:
            raise _beyond(integers, rows)
    dtype = torch.uint8 if rows <= _UINT8_VALUES else torch.int32
    return array_of_tensor(integers.to("cpu", dtype)).reshape(_four_axes(indexes.shape))


def tensor_of_array(array: npt.NDArray[Any], shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """A tensor of its own with the array's numbers and dtype."""
    tensor = torch.empty(tuple(shape), dtype=getattr(torch, array.dtype.name))
    np.copyto(tensor.numpy(), array.reshape(tuple(shape)))
    return tensor.to(device)


def _four_axes(shape: Sequence[int]) -> tuple[int, ...]:
    return *(*shape, 1, 1)[:3], prod(shape[3:])


def _beyond(indexes: torch.Tensor, rows: int) -> InvalidTensorError:
    place = int(((indexes < 0) | (indexes >= rows)).flatten().nonzero()[0])
    element = [int(axis) for axis in np.unravel_index(place, tuple(indexes.shape))]
    found = f"is {int(indexes[tuple(element)])}; expected a row of the tables, 0 to {rows - 1}"
    return InvalidTensorError.at(f"indexes{element}", found)
