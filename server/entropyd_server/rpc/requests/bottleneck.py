"""Parses the bottleneck of a request: the array that Compress and Perturb are sent.

Invariant: a `Bottleneck` fits its model and the limits, so nothing after it checks again.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.symbols import SYMBOL_DTYPES
from entropyd.contract.wire import array_from_message
from entropyd.v1 import types_pb2
from entropyd_server.errors import limit_exceeded
from entropyd_server.limits import Limits

_DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


class Model(Protocol):
    """A codec or a configuration, as far as it describes bottlenecks."""

    @property
    def bottleneck_dtype(self) -> str: ...

    @property
    def coding_rank(self) -> int: ...

    @property
    def unit_axes(self) -> tuple[int, ...]: ...


class Bottleneck(NamedTuple):
    """An array that fits its model.

    Attributes:
      array: [*batch_shape, *broadcast_shape, *unit_axes] as it was sent: a dimension of unit_axes, which are
        prior_shape or none, may be 1, which stands for the model's. uint16 bit patterns for bfloat16; int8,
        int16 or int32 symbols.
      batch_shape: Its product is the number of coding units.
      broadcast_shape: The dimensions between batch_shape and unit_axes.
      units: Coding units.
      unit_symbols: Symbols of each, once dimensions of 1 are repeated.
    """

    array: npt.NDArray[Any]
    batch_shape: tuple[int, ...]
    broadcast_shape: tuple[int, ...]
    units: int
    unit_symbols: int


def parse_bottleneck(
    tensor: types_pb2.Tensor, model: Model, limits: Limits, *, symbols: bool = False
) -> Bottleneck:
    """Checks a tensor against its model; with `symbols`, it may be one of symbols.

    Raises:
      InvalidTensorError: If dtype, rank or shape do not fit; names the axis.
      LimitExceededError: If it has too many units, or too many symbols once dimensions of 1 are repeated.
    """
    dtype, array = array_from_message(tensor, "bottleneck")
    if dtype != model.bottleneck_dtype and not (symbols and dtype in SYMBOL_DTYPES):
        raise InvalidTensorError.at(
            "bottleneck.dtype", f"is {dtype}; the model's is {model.bottleneck_dtype}"
        )
    shape, rank, unit_axes = array.shape, model.coding_rank, model.unit_axes
    if len(shape) < rank:
        found = f"has rank {len(shape)}; coding_rank {rank} needs at least {rank}"
        raise InvalidTensorError.at("bottleneck", found)
    prior_axis = len(shape) - len(unit_axes)
    batch_shape, broadcast_shape = shape[: len(shape) - rank], shape[len(shape) - rank : prior_axis]
    if shape[prior_axis:] != unit_axes:
        _check_repeats(shape, prior_axis, unit_axes)
    units, unit_symbols = checked_size(batch_shape, broadcast_shape, model, limits)
    return Bottleneck(array, batch_shape, broadcast_shape, units, unit_symbols)


def checked_size(
    batch_shape: tuple[int, ...], broadcast_shape: tuple[int, ...], model: Model, limits: Limits
) -> tuple[int, int]:
    """Returns the number of units and of symbols in each; checks the array's size before it is allocated.

    Raises:
      LimitExceededError: Names max_units or max_message_bytes.
    """
    units, unit_symbols = prod(batch_shape), prod(broadcast_shape) * prod(model.unit_axes)
    if units > limits.max_units:
        raise limit_exceeded(f"{units} coding units exceed", "max_units", limits.max_units)
    # A dimension of 0 counts as 1: the array is empty, but NumPy still multiplies the others.
    elements = units * unit_symbols or prod(
        length or 1 for length in (*batch_shape, *broadcast_shape, *model.unit_axes)
    )
    array_bytes = elements * _DTYPE_BYTES[model.bottleneck_dtype]
    if array_bytes > limits.max_message_bytes:
        found = f"an array of {array_bytes} bytes exceeds"
        raise limit_exceeded(found, "max_message_bytes", limits.max_message_bytes)
    return units, unit_symbols


def check_finite(finite: npt.NDArray[np.bool_], field: str) -> None:
    """Raises InvalidTensorError for the first element of an array that is not finite; names it."""
    if not finite.all():
        element = [int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape)]
        raise InvalidTensorError.at(f"{field}{element}", "is NaN or infinite; expected finite numbers")


def _check_repeats(shape: tuple[int, ...], prior_axis: int, prior_shape: tuple[int, ...]) -> None:
    for axis, (found, expected) in enumerate(zip(shape[prior_axis:], prior_shape, strict=True), prior_axis):
        if found not in {1, expected}:
            description = f"is {found}; expected {expected} (or 1) for prior_shape {prior_shape}"
            raise InvalidTensorError.at(f"bottleneck.shape[{axis}]", description)
