"""Parameters of priors as functions of an index: data that names one of a closed set.

Invariant: a function's arguments are finite float64 numbers or arrays, of names and shapes that it takes.

docs/priors.md lists the functions. An index i may be any real number from 0 to its range less 1. An argument of
one axis has a value for each component of a mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import index
from types import MappingProxyType
from typing import Any

import numpy as np

from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.parameters import Array

# Of the values of one function over the grid: they are computed, so no message limits them.
MAX_VALUES = 2**22


@dataclass(frozen=True)
class _Formula:
    """What a function takes and computes.

    Attributes:
      arguments: Their names, in the order of the constructor in `entropyd.priors`.
      values: Computes the values `[indexes]`, or `[indexes, components]`, of arguments in one dtype at integers
        [indexes] or [indexes, 1] of that dtype.
      positive: Whether the arguments are above 0.
    """

    arguments: tuple[str, ...]
    values: Callable[..., Array]
    positive: bool = False


def _log_spaced(i: Array, low: Array, high: Array) -> Array:
    offset = np.log(low)
    slope = (np.log(high) - offset) / i.dtype.type(max(len(i) - 1, 1))
    values: Array = np.exp(offset + slope * i)
    return values


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


_FORMULAS: Mapping[str, _Formula] = MappingProxyType(
    {
        "affine": _Formula(("offset", "slope"), lambda i, offset, slope: offset + slope * i),
        "exp_affine": _Formula(("offset", "slope"), lambda i, offset, slope: np.exp(offset + slope * i)),
        "log_spaced": _Formula(("low", "high"), _log_spaced, positive=True),
        "softmax_affine": _Formula(
            ("offset", "slope"), lambda i, offset, slope: _softmax(offset + slope * i)
        ),
        "table": _Formula(("values",), lambda _i, values: values),
    }
)
FUNCTIONS = tuple(_FORMULAS)


@dataclass(frozen=True, eq=False)
class IndexFunction:
    """A parameter of a prior as a function of one index.

    Two functions are equal when name, axis and every argument are, to the bit.

    Attributes:
      name: One of `FUNCTIONS`.
      arguments: By name: read-only float64 arrays. `table` takes `values` [range] or [range, components]; the
        others take numbers [] or vectors [components].
      axis: Axis of index_ranges whose index it takes, from 0.

    Raises:
      InvalidConfigError: Naming every argument that is missing, unknown or out of range.
    """

    name: str
    arguments: Mapping[str, Any]
    axis: int = 0

    def __post_init__(self) -> None:
        arguments, violations = _checked(self.name, self.arguments, self.axis)
        if violations:
            raise InvalidConfigError.of(violations)
        object.__setattr__(self, "arguments", MappingProxyType(arguments))
        object.__setattr__(self, "axis", index(self.axis))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, dict(self.arguments), self.axis)

    @property
    def components(self) -> int | None:
        """Number of components of a mixture that it has values for; None for one value per index."""
        shape = np.broadcast_shapes(
            *(value.shape[self.name == "table" :] for value in self.arguments.values())
        )
        return shape[0] if shape else None

    def problems(self, field: str, index_ranges: tuple[int, ...]) -> Iterator[Violation]:
        """Says why it is no parameter `field` over a grid."""
        if not self.axis < len(index_ranges):
            yield Violation(
                f"{field}.axis", f"is {self.axis}; expected an axis of index_ranges {index_ranges}"
            )
            return
        count = index_ranges[self.axis]
        if self.name == "table" and len(self.arguments["values"]) != count:
            found = f"has {len(self.arguments['values'])} rows; expected {count}, the index range"
            yield Violation(f"{field}.values", found)
        values = int(np.prod(index_ranges)) * (self.components or 1)
        if values > MAX_VALUES:
            yield Violation(field, f"has {values} values over index_ranges; expected at most {MAX_VALUES}")

    def values(self, count: int, dtype: str) -> Array:
        """The values at the indexes 0 to count - 1, computed in a dtype: [count] or [count, components]."""
        i = np.arange(count, dtype=dtype)
        if self.components is not None:
            i = i[:, None]
        with np.errstate(all="ignore"):  # what is not finite is refused as such
            arguments = {name: value.astype(dtype) for name, value in self.arguments.items()}
            values: Array = _FORMULAS[self.name].values(i, **arguments)
            return values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexFunction) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        arguments = ((name, value.shape, value.tobytes()) for name, value in self.arguments.items())
        return (self.name, self.axis, *arguments)


def _checked(name: Any, given: Any, axis: Any) -> tuple[dict[str, Array], list[Violation]]:
    """The arguments of a function, and what is wrong with it; its fields are named without its own place."""
    formula = _FORMULAS.get(name) if isinstance(name, str) else None
    if formula is None:
        found = f"{name!r:.80} is none of: {', '.join(FUNCTIONS)}"
        return {}, [Violation("function", found)]
    violations = [Violation(n, "is missing") for n in formula.arguments if n not in given]
    expected = ", ".join(formula.arguments)
    violations += [
        Violation(f"{n!s:.80}", f"is unknown; {name} takes {expected}")
        for n in given
        if n not in formula.arguments
    ]
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or axis < 0:
        violations.append(Violation("axis", f"is {axis!r:.80}; expected an integer from 0"))
    arguments: dict[str, Array] = {}
    for argument in formula.arguments:
        if argument in given:
            value, problems = _argument(name, argument, given[argument], positive=formula.positive)
            violations += problems
            arguments[argument] = value
    if not violations:
        violations += _shape_problems(name, arguments)
    return arguments, violations


def _argument(function: str, name: str, value: Any, *, positive: bool) -> tuple[Array, list[Violation]]:
    try:
        array, _ = read_array(name, value)
    except InvalidTensorError as error:  # a parameter of a configuration, not a tensor of a call
        return np.zeros(()), list(error.violations)
    if array.dtype.kind not in "iuf":
        return array, [Violation(name, f"has dtype {array.dtype.name}; expected numbers")]
    array = np.ascontiguousarray(array, np.float64).reshape(array.shape)
    if array is value:
        array = array.copy()
    array.setflags(write=False)
    ranks = (1, 2) if function == "table" else (0, 1)
    if array.ndim not in ranks or array.size == 0:
        shapes = "[range] or [range, components]" if function == "table" else "[] or [components]"
        return array, [Violation(name, f"has shape {array.shape}; expected {shapes}")]
    good = np.isfinite(array) & ((array > 0) | (not positive))
    if not good.all():
        where = np.unravel_index(int(np.argmin(good)), array.shape)
        element = f"[{', '.join(str(int(i)) for i in where)}]" if array.ndim else ""
        bound = " above 0" if positive else ""
        return array, [Violation(f"{name}{element}", f"is {array[where]}; expected a finite number{bound}")]
    return array, []


def _shape_problems(name: str, arguments: Mapping[str, Array]) -> Iterator[Violation]:
    lengths = {value.size for value in arguments.values() if value.ndim and name != "table"}
    if len(lengths) > 1:
        found = ", ".join(f"{n} {value.shape}" for n, value in arguments.items())
        yield Violation("function", f"arguments count different numbers of components: {found}")
    if name == "softmax_affine" and not lengths:
        yield Violation(
            "function", "has numbers alone; expected a vector, with an element for each component"
        )
