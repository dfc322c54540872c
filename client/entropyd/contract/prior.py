"""Priors as data: a family's name and its checked parameters.

Invariant: TensorFlow Probability can build every `Prior`. Its parameters are finite, in range, of one dtype,
and broadcast to `batch_shape`; priors among them fit where they stand, and nest at most `MAX_DEPTH` deep.

`families` lists what there is; docs/priors.md explains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from entropyd.contract import parameters as checks
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.families import FAMILIES, Family, stands_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entropyd.contract.parameters import Array

Value: TypeAlias = "Array | tuple[int, ...] | Prior"

MAX_DEPTH = 4


@dataclass(frozen=True, eq=False)
class Prior:
    """A density over the noise-perturbed bottleneck, or a distribution that an adapter makes one of.

    Two priors are equal when family, dtype and every parameter are, to the bit.

    Attributes:
      family: Name of the family.
      parameters: By name, sorted: read-only float arrays of one dtype, tuples of integers (`batch_shape` of a
        DeepFactorized), or priors (`base` of an adapter, `components` of a mixture).

    Raises:
      InvalidConfigError: Naming every parameter that is missing, unknown or out of range.
    """

    family: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        if isinstance(self.family, str) and self.family in FAMILIES:
            parameters, violations = _checked(self.family, FAMILIES[self.family], self.parameters)
        else:
            found = f"{self.family!r:.80} is none of: {', '.join(FAMILIES)}"
            parameters, violations = {}, [Violation("prior.family", found)]
        if violations:
            raise InvalidConfigError.of(violations)
        object.__setattr__(self, "parameters", MappingProxyType(dict(sorted(parameters.items()))))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.family, dict(self.parameters))

    @cached_property
    def dtype(self) -> str:
        """`float32` or `float64`."""
        sources = (value for value in self.parameters.values() if not isinstance(value, tuple))
        return str(next(sources).dtype)

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes that are not assumed i.i.d.; TFC's prior_shape."""
        return _batch_shape(self.parameters)

    @property
    def nested(self) -> Prior | None:
        """The prior among the parameters, if there is one."""
        name = FAMILIES[self.family].nested
        return None if name is None else self.parameters[name]

    @property
    def depth(self) -> int:
        """1, and 1 for each prior nested in it."""
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
        """A copy with other variables.

        Raises:
          InvalidConfigError: As the constructor.
        """
        if self.nested is None:
            return Prior(self.family, {**self.parameters, **variables})
        name = FAMILIES[self.family].nested
        return Prior(self.family, {**self.parameters, str(name): self.nested.with_variables(variables)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prior) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return (
            self.family,
            tuple(
                (name, (value.dtype.name, value.shape, value.tobytes()))
                if isinstance(value, np.ndarray)
                else (name, value)
                for name, value in self.parameters.items()
            ),
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
    arrays, problems = _arrays(family, {n: given[n] for n in sorted(expected) if n in given}, fixed)
    violations += problems
    if not violations and not family.network:
        try:
            _batch_shape({**fixed, **arrays})
        except ValueError:
            shapes = {**{n: v.batch_shape for n, v in fixed.items() if isinstance(v, Prior)}}
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
            pass  # shapes that do not broadcast are told as such
    return arrays, violations


def _nesting(family: str, name: str, nested: Any) -> list[Violation]:
    """Says why a prior cannot stand in another."""
    field = f"prior.{name}"
    if nested is None:
        return []  # missing, and told as such
    if not isinstance(nested, Prior):
        return [Violation(field, f"is a {type(nested).__name__}; expected a prior")]
    if not stands_on(family, nested.family):
        able = ", ".join(base for base in FAMILIES if stands_on(family, base))
        return [Violation(field, f"is a {nested.family}; {family} takes one of: {able}")]
    if nested.depth >= MAX_DEPTH:
        return [Violation(field, f"nests {nested.depth} priors; expected at most {MAX_DEPTH - 1}")]
    return []


def _batch_shape(parameters: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape that all parameters broadcast to, without the component axis of a mixture.

    Raises:
      ValueError: If they do not.
    """
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
