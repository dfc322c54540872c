"""The quantization offset of a configuration: numbers that broadcast to one for each row of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from entropyd.contract.arrays import read_array
from entropyd.contract.dtypes import coding_dtype, narrowed, widened
from entropyd.contract.errors import InvalidTensorError, Violation
from entropyd.contract.fields import Field
from entropyd.contract.parameters import DTYPES, Array
from entropyd.contract.prior_forms import read_tensor, tensor_from_dict, tensor_to_dict
from entropyd.contract.wire import tensor_to_message

_NAME = "quantization_offset"


def _problems(name: str, value: Any) -> Iterator[Violation]:
    try:
        array, _ = read_array(name, value)
    except InvalidTensorError as error:  # an argument of a configuration, not a tensor of a call
        yield from error.violations
        return
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        yield Violation(name, f"has dtype {array.dtype.name}; expected numbers")
    elif not np.isfinite(array).all():
        yield Violation(name, "holds NaN or infinities; expected finite numbers")


QUANTIZATION_OFFSET = Field(
    _problems,
    lambda value: read_array(_NAME, value)[0],
    tensor_to_dict,
    lambda _name, value, _problems: tensor_from_dict(value),
    tensor_to_message,
    lambda name, value, problems: read_tensor(value, name, DTYPES, problems),
)


def contradictions(offset: Any, shape: tuple[int, ...], shape_name: str, dtype: str) -> Iterator[Violation]:
    """Says what keeps an offset without other problems from rows of a shape and a dtype of bottlenecks."""
    array, _ = read_array(_NAME, offset)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        found = f"has shape {array.shape}; expected one that broadcasts to {shape_name} {shape}"
        yield Violation(_NAME, found)
    if not np.isfinite(_rounded(array, dtype)).all():
        yield Violation(_NAME, f"holds numbers beyond the range of {dtype}")


def rounded(offset: Array, dtype: str) -> Array:
    """An offset as TFC casts it to a dtype of bottlenecks, in that dtype's `coding_dtype`; read-only."""
    array = _rounded(offset, dtype)
    array.setflags(write=False)
    return array


def _rounded(offset: Array, dtype: str) -> Array:
    with np.errstate(over="ignore"):
        wide = np.array(offset, coding_dtype(dtype))
    return widened(narrowed(wide.reshape(-1), dtype), dtype).reshape(wide.shape)


def of_rows(offset: Array | None, shape: tuple[int, ...]) -> Array | None:
    """[rows], the offset of each of the rows of a shape."""
    return None if offset is None else np.broadcast_to(offset, shape).reshape(-1)


def shaped_like(given: Array | None, offset: Array, shape: tuple[int, ...]) -> Array:
    """The offset of each row in the shape of the one that was given, or in that of the rows."""
    whole = offset.reshape(shape)
    if given is None:
        return whole
    # A given one is repeated along axes that it lacks, or in which its length is 1.
    own = np.shape(given)
    lengths = (1,) * (whole.ndim - len(own)) + own
    return whole[tuple(slice(length) for length in lengths)].reshape(own)
