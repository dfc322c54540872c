"""What constructor arguments of configurations may be, and their forms in JSON and in messages.

None stands for an argument that is left out, which has no JSON and is unset in a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from entropyd.contract import prior_forms
from entropyd.contract.arrays import read_array
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, Array, dtype_name
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.families import FAMILIES
from entropyd.contract.parameters import DTYPES, integers
from entropyd.contract.prior import Prior
from entropyd.contract.prior_forms import read_tensor, tensor_from_dict, tensor_to_dict
from entropyd.contract.wire import dtype_name as name_of_number
from entropyd.contract.wire import dtype_number, tensor_to_message
from entropyd.v1 import types_pb2

Problems: TypeAlias = list[Violation]
Reader: TypeAlias = "Callable[[str, Any, Problems], Any]"

_TABLES = ("cdf", "cdf_offset")


@dataclass(frozen=True)
class Field:
    """A constructor argument of a configuration: its checks, and its forms in JSON and in a message.

    Attributes:
      problems: Finds what is wrong with an argument `(name, value)` as a caller gave it.
      normalised: Converts a valid value to the form that configurations hold.
      to_json: Converts it to a JSON-serialisable form.
      from_json: Restores it, or adds what is wrong to a list. Raises ValueError, KeyError, TypeError or
        AttributeError for what `to_json` does not make.
      to_message: Converts it to what the message's field takes.
      from_message: Restores it, or adds what is wrong to a list.
    """

    problems: Callable[[str, Any], Iterator[Violation]]
    normalised: Callable[[Any], Any] = lambda value: value
    to_json: Callable[[Any], Any] = lambda value: value
    from_json: Reader = lambda _name, value, _problems: value
    to_message: Callable[[Any], Any] = lambda value: value
    from_message: Reader = lambda _name, value, _problems: value


def integer(least: int, most: int) -> Field:
    """An integer from `least` to `most`."""

    def problems(name: str, value: Any) -> Iterator[Violation]:
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole and least <= value <= most):
            found = "is missing" if value is None else f"is {value!r:.80}"
            yield Violation(name, f"{found}; expected an integer from {least} to {most}")

    return Field(problems, int)


def number(expected: str, good: Callable[[Any], bool]) -> Field:
    """A number for which `good` holds; `expected` says that in a message."""
    kinds = (int, float, np.integer, np.floating)
    return Field(_unless(lambda value: isinstance(value, kinds) and good(value), expected), float)


def _unless(good: Callable[[Any], bool], expected: str) -> Callable[[str, Any], Iterator[Violation]]:
    def problems(name: str, value: Any) -> Iterator[Violation]:
        if not good(value):
            yield Violation(name, f"is {value!r:.80}; expected {expected}")

    return problems


def _dtype(names: Sequence[str]) -> Field:
    """A dtype of one of `names`; None is float32."""
    return Field(
        _unless(lambda value: dtype_name(value) in names, f"one of {', '.join(names)}"),
        dtype_name,
        to_message=dtype_number,
        from_message=lambda _name, value, _problems: name_of_number(value) or str(value),
    )


def choice(numbers: Mapping[str, int]) -> Field:
    """One of the names of an enum of messages, which are given with their numbers."""
    names = {number: name for name, number in numbers.items()}
    return Field(
        _unless(lambda value: isinstance(value, str) and value in numbers, f"one of {', '.join(numbers)}"),
        to_message=numbers.__getitem__,
        from_message=lambda _name, value, _problems: names.get(value, str(value)),
    )


def optional(field: Field) -> Field:
    def problems(name: str, value: Any) -> Iterator[Violation]:
        if value is not None:
            yield from field.problems(name, value)

    def normalised(value: Any) -> Any:
        return None if value is None else field.normalised(value)

    return replace(field, problems=problems, normalised=normalised)


def _density_problems(name: str, value: Any) -> Iterator[Violation]:
    if not isinstance(value, Prior):
        found = "is missing" if value is None else f"is a {type(value).__name__}"
        yield Violation(name, f"{found}; expected one of entropyd.priors")
    elif not FAMILIES[value.family].density:
        yield Violation(name, f"is a {value.family}, which has no density; add noise to it")


def _prior_problems(name: str, value: Any) -> Iterator[Violation]:
    yield from _density_problems(name, value)
    if isinstance(value, Prior) and value.index_ranges is not None:
        found = f"has index_ranges {value.index_ranges}, but the model takes no indexes"
        yield Violation(name, f"{found}; expected an ordinary prior, such as its on_grid()")


def _indexed_prior_problems(name: str, value: Any) -> Iterator[Violation]:
    yield from _density_problems(name, value)
    if not isinstance(value, Prior):
        return
    if not value.batch_shape:
        expected = "expected index_ranges of priors.indexed, or a batch shape that they are"
        yield Violation(name, f"has no index_ranges and batch shape (); {expected}")
    elif value.index_ranges not in {None, value.batch_shape}:
        found = f"has batch shape {value.batch_shape}; expected its index_ranges {value.index_ranges}"
        yield Violation(name, found)
    else:
        yield from (
            Violation(name, f"has a batch shape that {problem.description}")
            for problem in integers(name, value.batch_shape)[1]
        )


def _prior_from_json(name: str, value: Any, problems: Problems) -> Prior | None:
    del name
    try:
        return prior_forms.prior_from_dict(value)
    except InvalidConfigError as error:
        problems += error.violations
        return None


def _vector_problems(name: str, value: Any) -> Iterator[Violation]:
    try:
        array, _ = read_array(name, value)
    except InvalidTensorError as error:  # an argument of a configuration, not a tensor of a call
        yield from error.violations
        return
    if array.ndim != 1 or array.dtype.kind not in "iu":
        yield Violation(name, f"is {array.dtype.name} of rank {array.ndim}; expected a vector of int32")
    elif array.size and (array.min() < -(2**31) or array.max() >= 2**31):
        yield Violation(name, f"has values from {array.min()} to {array.max()}; expected int32")


def _vector(value: Any) -> Array:
    array = np.array(value, np.int32)
    array.setflags(write=False)
    return array


def _vector_from_message(name: str, value: types_pb2.Tensor, problems: Problems) -> Array | None:
    return read_tensor(value, name, ("int32",), problems)


def _tables_problems(name: str, value: Any) -> Iterator[Violation]:
    if not isinstance(value, (tuple, list)) or len(value) != len(_TABLES):
        yield Violation(name, f"are {value!r:.80}; expected (cdf, cdf_offset)")
        return
    for part, vector in zip(_TABLES, value, strict=True):
        yield from _vector_problems(f"{name}.{part}", vector)


def _tables_from_message(name: str, value: types_pb2.Tables, problems: Problems) -> Any:
    parts = [_vector_from_message(f"{name}.{part}", getattr(value, part), problems) for part in _TABLES]
    return None if any(part is None for part in parts) else tuple(parts)


FLAG = Field(_unless(lambda value: isinstance(value, (bool, np.bool_)), "True or False"), bool)
NOISE_LEVELS = integer(1, 65535)
BOTTLENECK_DTYPE = _dtype(BOTTLENECK_DTYPES)
PRIOR_DTYPE = optional(_dtype(DTYPES))
PRIOR = Field(
    _prior_problems,
    to_json=prior_forms.prior_to_dict,
    from_json=_prior_from_json,
    to_message=prior_forms.prior_to_message,
    from_message=lambda name, value, problems: prior_forms.prior_from_message(value, name, problems),
)
# A prior whose batch shape is index_ranges.
INDEXED_PRIOR = replace(PRIOR, problems=_indexed_prior_problems)
# Axis lengths.
SHAPE = Field(
    lambda name, value: iter(integers(name, value)[1]),
    lambda value: integers("shape", value)[0],
    list,
    to_message=lambda value: types_pb2.Integers(values=value),
    from_message=lambda _name, value, _problems: tuple(value.values),
)
INT32_VECTOR = Field(
    _vector_problems,
    _vector,
    tensor_to_dict,
    lambda _name, value, _problems: tensor_from_dict(value),
    tensor_to_message,
    _vector_from_message,
)
# `(cdf, cdf_offset)`
TABLES = Field(
    _tables_problems,
    lambda value: tuple(map(_vector, value)),
    lambda value: {part: tensor_to_dict(vector) for part, vector in zip(_TABLES, value, strict=True)},
    lambda _name, value, _problems: tuple(tensor_from_dict(value[part]) for part in _TABLES),
    lambda value: types_pb2.Tables(cdf=tensor_to_message(value[0]), cdf_offset=tensor_to_message(value[1])),
    _tables_from_message,
)
