"""Reads the arrays that callers hand in.

Arrays are taken in the dtype that they have; lists of numbers have none. Invariant: no element changes its
value, and nothing beside the elements, such as a mask, is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from entropyd.contract.dtypes import Array, array_dtype_name, numpy_dtype
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError

_NUMBERS = (int, float, np.integer, np.floating, np.bool_)
_MAX_DEPTH = 32  # of NumPy's arrays
# Conversions between these keep or round a value; from others they would parse it, or drop a part.
_ROUNDED_KINDS = "biuf"
_TRIMMED = (
    "has NumPy's dtype S, which drops zeros at the end of a string: "
    "pass a list of bytes, or an array of dtype object"
)


def array_of(field: str, value: Any, *dtypes: str, numbers: str | None = None) -> Array:
    """The caller's array of one of `dtypes`, not copied if it is one of NumPy's.

    Args:
      field: Its name, for messages.
      value: An array, or numbers: see `read_array`.
      dtypes: Names of dtypes.
      numbers: Which of `dtypes` numbers get, and messages suggest; the first by default.

    Raises:
      InvalidTensorError: If it is anything else; says what was found, and what to do.
    """
    if type(value) is np.ndarray and array_dtype_name(value) in dtypes:
        return value
    array, found = read_array(field, value)
    default = numbers or dtypes[0]
    if not found:
        return numbers_as(field, array, default)
    wrong = sorted(found.difference(dtypes))
    if wrong:
        what = "has" if isinstance(value, np.ndarray) else f"is {_a(value)} of"
        expected = ", ".join(dtypes[:-1]) + " or " * (len(dtypes) > 1) + dtypes[-1]
        advice = f": pass np.asarray(x, '{default}')" if array.dtype.kind in _ROUNDED_KINDS else ""
        raise InvalidTensorError.at(field, f"{what} dtype {wrong[0]}; expected {expected}{advice}")
    # A list may have joined arrays to numbers, which are float64 to NumPy.
    return _cast(array, np.result_type(*map(numpy_dtype, found)))


def read_array(field: str, value: Any) -> tuple[Array, set[str]]:
    """The caller's array, and the dtypes of all arrays that are in it.

    Args:
      field: Its name, for messages.
      value: A NumPy array; an object with `__array__`, or a buffer; or a number, or nested lists or tuples of
        numbers (or of such arrays).

    Returns:
      The array, and the dtypes' names: none for numbers, which are int64 or float64 to NumPy.

    Raises:
      InvalidTensorError: For anything else that NumPy would convert: masked arrays and other subclasses,
        ragged lists, lists of strings or of complex numbers, sets, dictionaries, generators.
    """
    if isinstance(value, (list, tuple)):
        return _joined(field, value)
    if isinstance(value, _NUMBERS) and not isinstance(value, np.generic):
        return _joined(field, value)
    if not _is_array(value):
        raise InvalidTensorError.at(field, f"is {_a(value)}; expected an array, or a list of numbers")
    array = _converted(field, value)
    return array, {array.dtype.name}


def numbers_as(field: str, array: Array, dtype: str) -> Array:
    """Numbers that `read_array` found, in a dtype; raises InvalidTensorError if it cannot hold them."""
    converted = _cast(array, numpy_dtype(dtype))
    if converted.dtype.kind in "iu" and not np.array_equal(converted, array):
        raise InvalidTensorError.at(field, f"holds numbers that are no {dtype}")
    return converted


def bit_strings_of(field: str, value: Any) -> tuple[tuple[int, ...], list[bytes]]:
    """The caller's bit strings: their shape, and all of them in row-major order.

    Args:
      field: Their name, for messages.
      value: `bytes`, nested lists or tuples of them, or an array of dtype object.

    Raises:
      InvalidRequestError: If it is anything else.
    """
    problem = _no_bytes(value, 0)
    if problem is None:
        array = np.array(value, np.object_)
        strings = array.reshape(-1).tolist()
        if all(isinstance(string, bytes) for string in strings):
            return array.shape, strings
        problem = "is a ragged list; expected rows of one length"
    raise InvalidRequestError.at(field, problem)


def _joined(field: str, value: Any) -> tuple[Array, set[str]]:
    found: set[str] = set()
    parts = _parts(field, value, found, 0)
    try:
        array = np.asarray(parts)
        if array.dtype.kind == "O":  # integers beyond 64 bits
            array = np.asarray(parts, np.float64)
    except ValueError as error:
        raise InvalidTensorError.at(field, "is a ragged list; expected rows of one length") from error
    except OverflowError as error:
        raise InvalidTensorError.at(field, "holds an integer beyond float64's range") from error
    return array, found


def _parts(field: str, value: Any, found: set[str], depth: int) -> Any:
    """Nested lists of numbers and plain arrays; adds the arrays' dtypes to `found`."""
    if not isinstance(value, (list, tuple)):
        if isinstance(value, _NUMBERS):
            return value
        if not _is_array(value):
            raise InvalidTensorError.at(field, f"is {_a(value)}; expected a number")
        array = _converted(field, value)
        found.add(array.dtype.name)
        return array
    if depth == _MAX_DEPTH:
        raise InvalidTensorError.at(field, f"nests more than {_MAX_DEPTH} lists")
    if all(issubclass(kind, _NUMBERS) for kind in set(map(type, value))):
        return value
    return [_parts(f"{field}[{place}]", part, found, depth + 1) for place, part in enumerate(value)]


def _converted(field: str, value: Any) -> Array:
    """The array that an array-like value is, or converts itself to."""
    try:
        array: Array = np.asanyarray(value)
    except MemoryError:
        raise
    except Exception as error:  # whatever the value's own conversion raises
        raise InvalidTensorError.at(field, f"is {_a(value)} that gives no array: {error}") from error
    if isinstance(array, np.ma.MaskedArray):
        found = "is a masked array, whose mask would be lost: pass x.filled(VALUE), "
        raise InvalidTensorError.at(field, found + "or x.data where nothing is masked")
    if type(array) not in {np.ndarray, np.memmap}:
        found = f"is {_a(array)}, and what that says beside its elements would be lost: pass np.asarray(x)"
        raise InvalidTensorError.at(field, found)
    return array


def _is_array(value: Any) -> bool:
    """Whether a value says that it is an array: NumPy would make one of anything."""
    if isinstance(value, (str, bytes, type)):
        return False
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return True
    try:
        memoryview(value).release()
    except TypeError:
        return False
    return True


def _no_bytes(value: Any, depth: int) -> str | None:
    """What a value is or holds beside bytes; None if nothing else."""
    if isinstance(value, bytes):
        return _TRIMMED if isinstance(value, np.bytes_) else None
    if depth > _MAX_DEPTH:
        return f"nests more than {_MAX_DEPTH} lists"
    parts: Sequence[Any] = value
    if not isinstance(value, (list, tuple)):
        if not _is_array(value):
            return f"holds {_a(value)}; expected bytes"
        try:
            parts = _objects(value)
        except InvalidTensorError as error:
            return error.violations[0].description
    problems = (_no_bytes(part, depth + 1) for part in parts if type(part) is not bytes)
    return next((problem for problem in problems if problem is not None), None)


def _objects(value: Any) -> list[Any]:
    array = _converted("strings", value)
    if array.dtype.kind == "S":
        raise InvalidTensorError.at("strings", _TRIMMED)
    if array.dtype.kind != "O":
        found = f"has dtype {array.dtype}; expected bytes, or an array of dtype object"
        raise InvalidTensorError.at("strings", found)
    elements: list[Any] = array.reshape(-1).tolist()
    return elements


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused as such
        return array.astype(dtype, copy=False)


def _a(value: Any) -> str:
    """A value's type with an article, for messages."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
