"""Priors as data: a family's name and its checked parameters.

Owns which families exist, which parameters each takes, and what values those may have. It must not know how
a density is computed. Invariant: a `Prior` that exists can be built by TensorFlow Probability: its parameters
are finite, in range, of one dtype, and broadcast to `batch_shape`.

Names and meanings are those of tensorflow_compression/python/distributions (uniform_noise.py,
deep_factorized.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidConfigError, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = "Array | tuple[int, ...]"

DTYPES = ("float32", "float64")
MAX_RANK = 8
MAX_LAYERS = 16
# More would make tables of gigabytes with any useful number of noise levels.
MAX_CHANNELS = 2**20


# What values a parameter may have: any finite number, one above 0, or weights, which are not negative and sum
# to 1 along the last axis, the one that counts mixture components.
Domain: TypeAlias = Literal["real", "positive", "weight"]

_LOCATION_SCALE: Mapping[str, Domain] = {"loc": "real", "scale": "positive"}
_MIXTURE: Mapping[str, Domain] = {**_LOCATION_SCALE, "weight": "weight"}
FAMILIES: Mapping[str, Mapping[str, Domain]] = MappingProxyType(
    {
        "NoisyNormal": _LOCATION_SCALE,
        "NoisyLogistic": _LOCATION_SCALE,
        "NoisyLaplace": _LOCATION_SCALE,
        "NoisyNormalMixture": _MIXTURE,
        "NoisyLogisticMixture": _MIXTURE,
    }
)
DEEP_FACTORIZED = "NoisyDeepFactorized"


@dataclass(frozen=True, eq=False)
class Prior:
    """A density over the noise-perturbed bottleneck.

    Two priors are equal when family, dtype and every parameter are, to the bit.

    Attributes:
      family: Name of the family.
      parameters: By name, sorted: read-only float arrays of one dtype, or tuples of integers
        (`batch_shape` of NoisyDeepFactorized).

    Raises:
      InvalidConfigError: Naming every parameter that is missing, unknown or out of range.
    """

    family: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.family == DEEP_FACTORIZED:
            parameters, violations = _deep_factorized(self.parameters)
        elif isinstance(self.family, str) and self.family in FAMILIES:
            parameters, violations = _elementwise(FAMILIES[self.family], self.parameters)
        else:
            known = ", ".join([*FAMILIES, DEEP_FACTORIZED])
            parameters = {}
            violations = [Violation("prior.family", f"{self.family!r:.80} is none of: {known}")]
        if violations:
            raise InvalidConfigError.of(violations)
        object.__setattr__(self, "parameters", MappingProxyType(dict(sorted(parameters.items()))))

    @cached_property
    def dtype(self) -> str:
        """`float32` or `float64`."""
        arrays = (value for value in self.parameters.values() if isinstance(value, np.ndarray))
        return str(next(arrays).dtype)

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes that are not assumed i.i.d.; TFC's prior_shape."""
        if self.family == DEEP_FACTORIZED:
            shape = self.parameters["batch_shape"]
            if isinstance(shape, tuple):
                return shape
        return _batch_shape(self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prior) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
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


def _elementwise(
    expected: Mapping[str, Domain], given: Mapping[str, Any]
) -> tuple[dict[str, Value], list[Violation]]:
    """Checks parameters that broadcast against one another."""
    violations = list(_names(set(expected), set(given)))
    parameters, problems = _common_dtype({name: given[name] for name in expected if name in given})
    violations += problems
    for name, value in parameters.items():
        violations += _domain(f"prior.{name}", expected[name], value)
    if not violations:
        try:
            _batch_shape(parameters)
        except ValueError:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in parameters.items())
            violations.append(Violation("prior", f"shapes do not broadcast: {shapes}"))
    return dict(parameters), violations


def _names(expected: set[str], given: set[str]) -> Iterator[Violation]:
    for name in sorted(expected - given):
        yield Violation(f"prior.{name}", "is missing")
    for name in sorted(given - expected):
        yield Violation(f"prior.{name:.80}", f"is unknown; expected {', '.join(sorted(expected))}")


def _common_dtype(given: Mapping[str, Any]) -> tuple[dict[str, Array], list[Violation]]:
    """Converts to one dtype by TFP's rule: arrays keep theirs, plain numbers follow, float32 without any."""
    violations: list[Violation] = []
    arrays: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    for name, value in given.items():
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.empty((), np.object_)
        if array.dtype.kind in "iu" or (array.dtype == np.float64 and not hasattr(value, "dtype")):
            arrays[name] = array
        elif array.dtype.name in DTYPES:
            arrays[name] = array
            dtypes[name] = array.dtype.name
        else:
            violations.append(
                Violation(f"prior.{name}", f"has dtype {array.dtype.name}; expected {' or '.join(DTYPES)}")
            )
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in sorted(dtypes.items()))
        violations.append(Violation("prior", f"parameters must have one dtype; found {found}"))
    dtype = next(iter(dtypes.values()), "float32")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        return {name: _frozen(array.astype(dtype)) for name, array in arrays.items()}, violations


def _frozen(array: Array) -> Array:
    array = np.ascontiguousarray(array).reshape(array.shape)
    array.setflags(write=False)
    return array


def _domain(field: str, expected: Domain, value: Array) -> Iterator[Violation]:
    if value.ndim > MAX_RANK:
        yield Violation(field, f"has rank {value.ndim}; expected at most {MAX_RANK}")
        return
    if value.size == 0:
        yield Violation(field, f"has shape {value.shape} and so no elements")
        return
    if expected == "weight" and value.ndim == 0:
        yield Violation(field, "is a scalar; expected a last axis that counts mixture components")
        return
    checks = {
        "real": (np.isfinite(value), "expected a finite number"),
        "positive": (np.isfinite(value) & (value > 0), "expected a finite number above 0"),
        "weight": (np.isfinite(value) & (value >= 0), "expected a finite number of at least 0"),
    }
    good, expectation = checks[expected]
    if not good.all():
        where = np.unravel_index(int(np.argmin(good)), value.shape)
        element = f"[{', '.join(str(int(i)) for i in where)}]" if value.ndim else ""
        yield Violation(f"{field}{element}", f"is {value[where]}; {expectation}")
    elif expected == "weight":
        # TFP reads the weights as they are in the CDF and normalised in the density; the two agree only when
        # the weights sum to 1.
        total = value.sum(axis=-1, dtype=np.float64)
        worst = total.flat[int(np.argmax(np.abs(total - 1)))]
        if abs(worst - 1) > 1e-3:
            yield Violation(field, f"sums to {worst:.6g} along its last axis; expected 1")


def _batch_shape(parameters: Mapping[str, Value]) -> tuple[int, ...]:
    """The shape that all parameters broadcast to, without the component axis of a mixture."""
    shape = np.broadcast_shapes(np.shape(parameters["loc"]), np.shape(parameters["scale"]))
    if "weight" not in parameters:
        return shape
    weight = np.shape(parameters["weight"])
    if shape[-1:] != weight[-1:]:  # TFP counts components in both and wants the same number
        raise ValueError(shape)
    return np.broadcast_shapes(shape, weight)[:-1]


def _deep_factorized(given: Mapping[str, Any]) -> tuple[dict[str, Value], list[Violation]]:
    """Checks the variables of a NoisyDeepFactorized: `matrix_i`, `bias_i` and `factor_i` of each layer."""
    layers = sum(1 for name in given if name.startswith("matrix_"))
    if not 1 <= layers <= MAX_LAYERS:
        return {}, [
            Violation("prior", f"has {layers} matrices; expected matrix_0 up to matrix_{MAX_LAYERS - 1}")
        ]
    names = {f"{kind}_{i}" for kind in ("matrix", "bias") for i in range(layers)}
    names |= {f"factor_{i}" for i in range(layers - 1)}
    violations = list(_names(names | {"batch_shape"}, set(given)))
    shape, problems = integers("prior.batch_shape", given.get("batch_shape", ()))
    violations += problems
    variables, problems = _common_dtype({name: given[name] for name in names if name in given})
    violations += problems
    for name, value in variables.items():
        violations += _domain(f"prior.{name}", "real", value)
    if violations:
        return {}, violations
    filters = [
        1,
        *(
            variables[f"matrix_{i}"].shape[1] if variables[f"matrix_{i}"].ndim == 3 else 0
            for i in range(layers)
        ),
    ]
    for name, value in variables.items():
        kind, _, layer = name.partition("_")
        rows, columns = filters[int(layer) + 1], filters[int(layer)] if kind == "matrix" else 1
        if value.shape != (prod(shape), rows, columns):
            expectation = (prod(shape), rows or "filters", columns)
            violations.append(Violation(f"prior.{name}", f"has shape {value.shape}; expected {expectation}"))
    if filters[-1] != 1 and not violations:
        violations.append(Violation(f"prior.matrix_{layers - 1}", f"has {filters[-1]} outputs; expected 1"))
    return {"batch_shape": shape, **variables}, violations


def integers(field: str, value: Any) -> tuple[tuple[int, ...], list[Violation]]:
    """Reads axis lengths, and what is wrong with them."""
    try:
        axes = tuple(index(i) for i in value)
    except (TypeError, ValueError):
        return (), [Violation(field, f"is {value!r:.80}; expected a list of integers")]
    if len(axes) > MAX_RANK or not all(axis >= 1 for axis in axes) or prod(axes) > MAX_CHANNELS:
        found = f"is {axes}; expected at most {MAX_RANK} axes of length 1 or more, {MAX_CHANNELS} elements"
        return (), [Violation(field, found)]
    return axes, []
