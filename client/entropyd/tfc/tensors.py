"""Arguments of calls as tensors, tensors as arrays, and calls of Python with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from entropyd.contract.arrays import bit_strings_of, read_array
from entropyd.contract.errors import InvalidTensorError


def array_of_tensor(value: Any) -> Any:
    """The array of a tensor; NumPy alone cannot read a bfloat16 one without axes."""
    narrow = tf.is_tensor(value) and value.dtype == tf.bfloat16
    return np.asarray(value.numpy() if narrow else value)


def tensor_of(name: str, value: Any, dtype: Any = None) -> Any:
    """An argument as TFC converts it: real numbers of any dtype, but nothing that would lose a part.

    Args:
      name: Of the argument, for errors.
      value: A tensor, an array, or nested lists of either.
      dtype: What to convert it to; None keeps its own.

    Raises:
      InvalidTensorError: For what `Model.compress` refuses whatever its dtype, and for strings and complex
        numbers.
    """
    if not _holds_tensors(value):
        array, _ = read_array(name, value)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            expected = "numbers" if dtype is None else dtype.name
            raise InvalidTensorError.at(name, f"has dtype {array.dtype}; expected {expected}")
    return tf.convert_to_tensor(value, dtype=dtype)


def strings_of(strings: Any) -> Any:
    """Bit strings as a tensor; raises InvalidRequestError for anything else."""
    if not _holds_tensors(strings):
        bit_strings_of("strings", strings)
    return tf.convert_to_tensor(strings, dtype=tf.string)


def call_python(
    function: Callable[..., Sequence[Any]], inputs: Sequence[Any], specs: Sequence[tf.TensorSpec]
) -> list[Any]:
    """Calls a function of arrays: now, or, in a graph, whenever the graph runs.

    Returns:
      What it returns, as tensors of the dtypes and, in a graph, of the shapes of `specs`.
    """

    def called(*arrays: Any) -> list[Any]:
        results = zip(function(*arrays), specs, strict=True)
        return [np.asarray(result, spec.dtype.as_numpy_dtype) for result, spec in results]

    if tf.executing_eagerly():
        results = zip(called(*map(array_of_tensor, inputs)), specs, strict=True)
        return [tf.constant(result, spec.dtype) for result, spec in results]
    tensors = tf.numpy_function(
        tf.autograph.experimental.do_not_convert(called), inputs, [spec.dtype for spec in specs]
    )
    return [tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(tensors, specs, strict=True)]


def _holds_tensors(value: Any) -> bool:
    """Whether a value is or holds tensors, which only TensorFlow can read while it builds a graph."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return bool(tf.is_tensor(value))
