"""Parameters of priors as functions of an index: data that names one of a closed set.

Invariant: a function's arguments are finite float64 numbers or arrays, of names and shapes that it takes.

docs/priors.md lists the functions with the shapes of their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index
from types import MappingProxyType
from typing import Any

import numpy as np

from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.parameters import Array

# Of one function over the grid: its values are computed, so no message limits them.
MAX_VALUES = 2**22

_SHAPES = ("[]", "[components]", "[components, indexes]")
_TABLE_SHAPES = ("", "[range]", "[range, components]")


@dataclass(frozen=True)
class _Formula:
    """What a function takes and computes.

    Attributes:
      ranks: How many axes each argument may have.
      values: Computes the values over the grid, of `(indexes, axis, arguments)`. `indexes` has an array for
        each index, which lies along its axis of the grid, in the dtype to compute in; a last axis is for
        components.
      shapes: What the axes of an argument are, by their number.
      positive: Whether the arguments are above 0.
    """

    ranks: Mapping[str, tuple[int, ...]]
    values: Callable[[Sequence[Array], int, Mapping[str, Array]], Array]
    shapes: tuple[str, ...] = _SHAPES
    positive: bool = False


def _affine(indexes: Sequence[Array], axis: int, arguments: Mapping[str, Array]) -> Array:
    offset, slope = (arguments[name].astype(indexes[axis].dtype) for name in ("offset", "slope"))
    if slope.ndim < 2:
        return offset + slope * indexes[axis]
    for column, i in zip(slope.T, indexes, strict=True):
        offset = offset + column * i
    return offset


def _exp_affine(indexes: Sequence[Array], axis: int, arguments: Mapping[str, Array]) -> Array:
    values: Array = np.exp(_affine(indexes, axis, arguments))
    return values


def _softmax_affine(indexes: Sequence[Array], axis: int, arguments: Mapping[str, Array]) -> Array:
    logits = _affine(indexes, axis, arguments)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    values: Array = powers / powers.sum(axis=-1, keepdims=True)
    return values


def _log_spaced(indexes: Sequence[Array], axis: int, arguments: Mapping[str, Array]) -> Array:
    low, high = np.log(arguments["low"]), np.log(arguments["high"])
    slope = (high - low) / max(indexes[axis].size - 1, 1)
    return _exp_affine(indexes, axis, {"offset": low, "slope": slope})


def _table(indexes: Sequence[Array], axis: int, arguments: Mapping[str, Array]) -> Array:
    values, i = arguments["values"], indexes[axis]
    rows = i.astype(np.intp)
    return (values[rows] if values.ndim == 1 else values[rows[..., 0]]).astype(i.dtype)


_NUMBER_OR_VECTOR = (0, 1)
_AFFINE = MappingProxyType({"offset": _NUMBER_OR_VECTOR, "slope": (0, 1, 2)})
_FORMULAS: Mapping[str, _Formula] = MappingProxyType(
    {
        "affine": _Formula(_AFFINE, _affine),
        "exp_affine": _Formula(_AFFINE, _exp_affine),
        "log_spaced": _Formula(
            {"low": _NUMBER_OR_VECTOR, "high": _NUMBER_OR_VECTOR}, _log_spaced, positive=True
        ),
        "softmax_affine": _Formula(_AFFINE, _softmax_affine),
        "table": _Formula({"values": (1, 2)}, _table, _TABLE_SHAPES),
    }
)
FUNCTIONS = tuple(_FORMULAS)


@dataclass(frozen=True, eq=False)
class IndexFunction:
    """A parameter of a prior as a function of an index.

    Two functions are equal when name, axis and every argument are, to the bit.

    Attributes:
      name: One of `FUNCTIONS`.
      arguments: By name, sorted: read-only float64 arrays.
      axis: Axis of index_ranges whose index it takes, from 0. It is 0 where `slope` has two axes: then the
        function takes all indexes.

    Raises:
      InvalidConfigError: Naming every argument that is missing, unknown or wrong.
    """

    name: str
    arguments: Mapping[str, Any]
    axis: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in _FORMULAS:
            found = f"{self.name!r:.80} is none of: {', '.join(FUNCTIONS)}"
            raise InvalidConfigError.at("function", found)
        arguments, violations = _checked(self.name, self.arguments)
        if isinstance(self.axis, bool) or not isinstance(self.axis, (int, np.integer)) or self.axis < 0:
            violations.append(Violation("axis", f"is {self.axis!r:.80}; expected an integer from 0"))
        if violations:
            raise InvalidConfigError.of(violations)
        object.__setattr__(self, "arguments", MappingProxyType(arguments))
        object.__setattr__(self, "axis", index(self.axis))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, dict(self.arguments), self.axis)

    @cached_property
    def components(self) -> int | None:
        """Number of components of a mixture that it has values for; None if it counts none."""
        if self.name == "table":
            return next(iter(self.arguments["values"].shape[1:]), None)
        return _components(self.arguments.values())

    @property
    def takes_all_indexes(self) -> bool:
        return self.name != "table" and any(value.ndim == 2 for value in self.arguments.values())

    def problems(self, field: str, ranges: tuple[int, ...]) -> Iterator[Violation]:
        """Says why it is no parameter `field` of a prior with these index ranges."""
        if self.axis >= len(ranges):
            yield Violation(
                f"{field}.axis", f"is {self.axis!r:.80}; expected an axis of index_ranges {ranges}"
            )
            return
        if self.takes_all_indexes:
            indexes = self.arguments["slope"].shape[1]
            if indexes != len(ranges):
                found = f"has {indexes} columns; expected {len(ranges)}, one for each of index_ranges"
                yield Violation(f"{field}.slope", found)
            if self.axis:
                yield Violation(
                    f"{field}.axis", f"is {self.axis!r:.80}; expected 0 beside a slope of two axes"
                )
        if self.name == "table" and len(self.arguments["values"]) != ranges[self.axis]:
            found = f"has {len(self.arguments['values'])} rows; expected {ranges[self.axis]}, the index range"
            yield Violation(f"{field}.values", found)
        values = prod(ranges) * (self.components or 1)
        if values > MAX_VALUES:
            yield Violation(field, f"has {values} values over index_ranges; expected at most {MAX_VALUES}")

    def on_grid(self, ranges: tuple[int, ...], dtype: str, *, counted: bool) -> Array:
        """Its values at all indexes, computed in a dtype.

        Returns:
          [*ranges]; with components, or if others of the prior are `counted`, [*ranges, components or 1].
        """
        counted = counted or self.components is not None
        indexes = np.ix_(*(np.arange(count, dtype=dtype) for count in ranges))
        if counted:
            indexes = tuple(i[..., None] for i in indexes)
        with np.errstate(all="ignore"):  # what is not finite is refused as such
            values = _FORMULAS[self.name].values(indexes, self.axis, self.arguments)
        return np.broadcast_to(values, (*ranges, self.components or 1) if counted else ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexFunction) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        arguments = ((name, value.shape, value.tobytes()) for name, value in self.arguments.items())
        return (self.name, self.axis, *arguments)


def _components(arguments: Iterable[Array]) -> int | None:
    return next((len(value) for value in arguments if value.ndim), None)


def _checked(name: str, given: Mapping[str, Any]) -> tuple[dict[str, Array], list[Violation]]:
    """The arguments of a function, sorted, and what is wrong with them."""
    formula = _FORMULAS[name]
    violations = [Violation(missing, "is missing") for missing in sorted(formula.ranks.keys() - given.keys())]
    for unknown in sorted(given.keys() - formula.ranks.keys()):
        expected = ", ".join(formula.ranks)
        violations.append(Violation(f"{unknown:.80}", f"is unknown; {name} takes {expected}"))
    arguments: dict[str, Array] = {}
    for argument in sorted(formula.ranks.keys() & given.keys()):
        arguments[argument], problems = _argument(formula, argument, given[argument])
        violations += problems
    if violations or name == "table":
        return arguments, violations
    if len({len(value) for value in arguments.values() if value.ndim}) > 1:
        found = ", ".join(f"{argument} {value.shape}" for argument, value in arguments.items())
        violations.append(Violation("function", f"counts components in two ways: {found}"))
    if name == "softmax_affine" and _components(arguments.values()) is None:
        violations.append(Violation("function", "has numbers alone; expected an element for each component"))
    return arguments, violations


def _argument(formula: _Formula, name: str, value: Any) -> tuple[Array, list[Violation]]:
    """A read-only copy of an argument, and what is wrong with it."""
    try:
        given, _ = read_array(name, value)
    except InvalidTensorError as error:  # a parameter of a configuration, not a tensor of a call
        return np.zeros(()), list(error.violations)
    if given.dtype.kind not in "iuf":
        return given, [Violation(name, f"has dtype {given.dtype.name}; expected numbers")]
    array = np.array(given, np.float64, order="C")
    array.setflags(write=False)
    if array.ndim not in formula.ranks[name] or array.size == 0:
        expected = " or ".join(formula.shapes[rank] for rank in formula.ranks[name])
        return array, [Violation(name, f"has shape {array.shape}; expected {expected}")]
    good = np.isfinite(array) & ((array > 0) | (not formula.positive))
    if good.all():
        return array, []
    where = np.unravel_index(int(np.argmin(good)), array.shape)
    element = f"[{', '.join(str(int(i)) for i in where)}]" if array.ndim else ""
    bound = " above 0" if formula.positive else ""
    return array, [Violation(f"{name}{element}", f"is {array[where]}; expected a finite number{bound}")]
