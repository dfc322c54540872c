"""Priors as data: a family's name and its checked parameters.

Invariant: TensorFlow Probability can build every `Prior`. Its parameters are finite, in range, of one dtype,
and broadcast to `batch_shape`; priors among them fit where they stand, and nest at most `MAX_DEPTH` deep. All
this holds for functions of the index as well, by their values over the grid.

`families` lists what there is; docs/priors.md explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from entropyd.contract import index_grid
from entropyd.contract import parameters as checks
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.families import FAMILIES, Family, stands_on
from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.parameters import Array

Value: TypeAlias = "Array | tuple[int, ...] | Prior | IndexFunction"

MAX_DEPTH = 4


@dataclass(frozen=True, eq=False)
class Prior:
    """A density over the noise-perturbed bottleneck, or a distribution that an adapter makes one of.

    Two priors are equal when family, dtype and every parameter are, to the bit.

    Attributes:
      family: Name of the family.
      parameters: By name, sorted: read-only float arrays of one dtype, tuples of integers (`batch_shape` of a
        DeepFactorized), priors (`base` of an adapter, `components` of a mixture), or functions of the index.
      index_ranges: Number of values of each index that the prior depends on; None for an ordinary prior. They
        are the batch shape, but for the components of a mixture, whose batch shape has one axis more.

    Raises:
      InvalidConfigError: Naming every parameter that is missing, unknown or out of range.
    """

    family: str
    parameters: Mapping[str, Any]
    index_ranges: tuple[int, ...] | None = None
    _grid: Prior | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.family, str) and self.family in FAMILIES:
            family = FAMILIES[self.family]
            if self.index_ranges is None:
                parameters, violations = _checked(self.family, family, self.parameters)
            else:
                parameters, violations = self._indexed(family)
        else:
            found = f"{self.family!r:.80} is none of: {', '.join(FAMILIES)}"
            parameters, violations = {}, [Violation("prior.family", found)]
        if violations:
            raise InvalidConfigError.of(violations)
        object.__setattr__(self, "parameters", MappingProxyType(dict(sorted(parameters.items()))))

    def _indexed(self, family: Family) -> tuple[dict[str, Any], list[Violation]]:
        """Checks the parameters by their values over the grid, and keeps the prior that has these."""
        ranges, violations = checks.integers("prior.index_ranges", self.index_ranges)
        if not ranges and not violations:
            violations = [Violation("prior.index_ranges", "is (); expected at least one range")]
        if violations:
            return {}, violations
        object.__setattr__(self, "index_ranges", ranges)
        given = dict(self.parameters)
        nested = given.get(family.nested or "")
        if isinstance(nested, Prior):
            if nested.index_ranges not in {None, ranges}:
                found = f"has index_ranges {nested.index_ranges}; expected {ranges}, or an ordinary prior"
                return {}, [Violation(f"prior.{family.nested}", found)]
            given[str(family.nested)] = nested = nested.on_grid()
        nested_dtype = nested.dtype if isinstance(nested, Prior) else None
        values, violations = index_grid.evaluated(family, given, nested_dtype, ranges)
        try:
            checked = grid = Prior(self.family, values)
            if grid.batch_shape[: len(ranges)] != ranges:
                spread = index_grid.spread(family, checked.parameters, checked.batch_shape, ranges)
                grid = Prior(self.family, spread)
        except InvalidConfigError as error:
            left_out = {f"prior.{name:.80}" for name in given if name not in values}
            return {}, [*violations, *(other for other in error.violations if other.field not in left_out)]
        if grid.batch_shape[: len(ranges)] != ranges or len(grid.batch_shape) > len(ranges) + 1:
            found = f"has parameters of batch shape {grid.batch_shape}; expected index_ranges {ranges}"
            violations.append(Violation("prior", found))
        object.__setattr__(self, "_grid", grid)
        functions = (IndexFunction, Prior)
        return {
            name: value if isinstance(value, functions) else checked.parameters[name]
            for name, value in {**checked.parameters, **self.parameters}.items()
        }, violations

    def on_grid(self) -> Prior:
        """The ordinary prior that has the values of all functions at every index; an ordinary one itself.

        NumPy computes them in the prior's dtype.
        """
        return self if self._grid is None else self._grid

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.family, dict(self.parameters), self.index_ranges)

    @cached_property
    def dtype(self) -> str:
        """`float32` or `float64`."""
        parameters = self.on_grid().parameters
        sources = (value for value in parameters.values() if not isinstance(value, tuple))
        return str(next(sources).dtype)

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes that are not assumed i.i.d.; TFC's prior_shape."""
        return _batch_shape(self.on_grid().parameters)

    @property
    def nested(self) -> Prior | None:
        name = FAMILIES[self.family].nested
        return None if name is None else self.parameters[name]

    @property
    def depth(self) -> int:
        """1, plus 1 for each prior nested in it."""
        return 1 if self.nested is None else 1 + self.nested.depth

    @cached_property
    def variables(self) -> dict[str, Array]:
        """Variables in TFC's order: biases, factors, matrices of a DeepFactorized, if it has one."""
        if self.nested is not None:
            return self.nested.variables
        if not FAMILIES[self.family].network:
            return {}
        kinds = ("bias", "factor", "matrix")
        ordered = sorted(
            (kinds.index(kind), int(layer), name)
            for name in self.parameters
            for kind, _, layer in [name.partition("_")]
            if kind in kinds
        )
        return {name: self.parameters[name] for _, _, name in ordered}

    def with_variables(self, variables: Mapping[str, Array]) -> Prior:
        """A copy with other variables; raises InvalidConfigError as the constructor does."""
        if self.nested is None:
            changed = {**self.parameters, **variables}
        else:
            name = FAMILIES[self.family].nested
            changed = {**self.parameters, str(name): self.nested.with_variables(variables)}
        return Prior(self.family, changed, self.index_ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prior) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        def key(value: Any) -> object:
            array = isinstance(value, np.ndarray)
            return (value.dtype.name, value.shape, value.tobytes()) if array else value

        return (
            self.family,
            self.index_ranges,
            *((name, key(value)) for name, value in self.parameters.items()),
        )


def _checked(name: str, family: Family, given: Mapping[str, Any]) -> tuple[dict[str, Value], list[Violation]]:
    expected = set(family.arrays)
    fixed: dict[str, Value] = {}
    violations: list[Violation] = []
    layers = checks.network_layers(given) if family.network else 0
    if family.network:
        if not 1 <= layers <= checks.MAX_LAYERS:
            found = f"has {layers} matrices; expected matrix_0 up to matrix_{checks.MAX_LAYERS - 1}"
            return {}, [Violation("prior", found)]
        expected |= checks.network_names(layers)
        fixed["batch_shape"], problems = checks.integers("prior.batch_shape", given.get("batch_shape", ()))
        violations += problems
    if family.nested is not None:
        nested = given.get(family.nested)
        violations += _nesting(name, family.nested, nested)
        if isinstance(nested, Prior):
            fixed[family.nested] = nested
    wanted = expected | set(fixed) | ({family.nested} if family.nested else set())
    violations = [*checks.names(wanted, set(given)), *violations]
    functions = {n for n in expected if isinstance(given.get(n), IndexFunction)}
    without = "is a function of the index; expected index_ranges beside it, as of priors.indexed"
    violations += [Violation(f"prior.{n}", without) for n in sorted(functions)]
    arrays, problems = _arrays(
        family, {n: given[n] for n in sorted(expected - functions) if n in given}, fixed
    )
    violations += problems
    if not violations and not family.network:
        try:
            _batch_shape({**fixed, **arrays})
        except ValueError:
            shapes = {n: v.batch_shape for n, v in fixed.items() if isinstance(v, Prior)}
            shapes.update({n: value.shape for n, value in arrays.items()})
            found = ", ".join(f"{n} {shape}" for n, shape in shapes.items())
            violations.append(Violation("prior", f"shapes do not broadcast: {found}"))
    return {**fixed, **arrays}, violations


def _arrays(
    family: Family, given: Mapping[str, Any], fixed: Mapping[str, Value]
) -> tuple[dict[str, Array], list[Violation]]:
    """Checks the parameters that are numbers or arrays."""
    if family.network:
        shape = fixed["batch_shape"]
        arrays, violations = checks.network(given, shape if isinstance(shape, tuple) else ())
    else:
        nested = next((value.dtype for value in fixed.values() if isinstance(value, Prior)), None)
        arrays, violations = checks.common_dtype(given, nested)
    for name, value in arrays.items():
        if name in family.arrays:
            violations += checks.domain(f"prior.{name}", family.arrays[name], value)
    if family.rising is not None and not violations:
        lower, upper = family.rising
        try:
            if not (arrays[lower] < arrays[upper]).all():
                violations.append(Violation(f"prior.{upper}", f"is not above {lower} everywhere"))
        except ValueError:
            pass  # the shapes do not broadcast, which is reported elsewhere
    return arrays, violations


def _nesting(family: str, name: str, nested: Any) -> list[Violation]:
    place = f"prior.{name}"
    if nested is None:
        return []  # reported as missing
    if not isinstance(nested, Prior):
        return [Violation(place, f"is a {type(nested).__name__}; expected a prior")]
    if not stands_on(family, nested.family):
        able = ", ".join(base for base in FAMILIES if stands_on(family, base))
        return [Violation(place, f"is a {nested.family}; {family} takes one of: {able}")]
    if nested.index_ranges is not None:
        found = f"has index_ranges {nested.index_ranges}; expected them of the prior around it too"
        return [Violation(place, found)]
    if nested.depth >= MAX_DEPTH:
        return [Violation(place, f"nests {nested.depth} priors; expected at most {MAX_DEPTH - 1}")]
    return []


def _batch_shape(parameters: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape to which all parameters broadcast, less the axis of a mixture; else raises ValueError."""
    if "batch_shape" in parameters:
        shape: tuple[int, ...] = parameters["batch_shape"]
        return shape
    weight = parameters.get("weight")
    others = [
        value.batch_shape if isinstance(value, Prior) else np.shape(value)
        for name, value in parameters.items()
        if name != "weight"
    ]
    shape = np.broadcast_shapes(*others)
    if weight is None:
        return shape
    if shape[-1:] != weight.shape[-1:]:  # TFP counts components in both and wants the same number
        raise ValueError(shape)
    return np.broadcast_shapes(shape, weight.shape)[:-1]
