"""Reads and checks the parameters of priors.

Invariant: the arrays returned are read-only, contiguous and of one dtype; violations name everything that is
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from math import prod
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidTensorError, Violation
from entropyd.contract.families import Domain

Array: TypeAlias = npt.NDArray[Any]

DTYPES = ("float32", "float64")
MAX_RANK = 8
MAX_LAYERS = 16
# More would make tables of gigabytes with any useful number of noise levels.
MAX_CHANNELS = 2**20


def names(expected: set[str], given: set[str]) -> Iterator[Violation]:
    """Says which names are missing and which are unknown."""
    for name in sorted(expected - given):
        yield Violation(f"prior.{name}", "is missing")
    for name in sorted(given - expected):
        yield Violation(f"prior.{name:.80}", f"is unknown; expected {', '.join(sorted(expected))}")


def common_dtype(
    given: Mapping[str, Any], nested_dtype: str | None = None
) -> tuple[dict[str, Array], list[Violation]]:
    """Converts numbers, lists and arrays to one dtype by TFP's rule: that of the arrays, float32 without any.

    A prior among the parameters, of `nested_dtype`, counts as an array.
    """
    violations: list[Violation] = []
    arrays: dict[str, Array] = {}
    dtypes: dict[str, str] = {} if nested_dtype is None else {"the nested prior": nested_dtype}
    for name, value in given.items():
        try:
            array, own = read_array(f"prior.{name}", value)
        except InvalidTensorError as error:  # a parameter of a configuration, not a tensor of a call
            violations += error.violations
            continue
        listed = not own or isinstance(value, (list, tuple))
        number = array.dtype.kind in "iu" or (array.dtype == np.float64 and listed)
        if not number and array.dtype.name not in DTYPES:
            found = f"has dtype {array.dtype.name}; expected {' or '.join(DTYPES)}"
            violations.append(Violation(f"prior.{name}", found))
            continue
        arrays[name] = array
        if not number:
            dtypes[name] = array.dtype.name
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


def domain(field: str, expected: Domain, value: Array) -> Iterator[Violation]:
    """Says which element is outside of a parameter's domain."""
    if value.ndim > MAX_RANK:
        yield Violation(field, f"has rank {value.ndim}; expected at most {MAX_RANK}")
        return
    if value.size == 0:
        yield Violation(field, f"has shape {value.shape} and so no elements")
        return
    if expected == "weight" and value.ndim == 0:
        yield Violation(field, "is a scalar; expected a last axis that counts mixture components")
        return
    if expected == "one positive" and value.ndim:
        yield Violation(field, f"has shape {value.shape}; expected one number")
        return
    least = {"weight": (value >= 0, " of at least 0"), "real": (True, "")}
    within, bound = least.get(expected, (value > 0, " above 0"))
    good = np.isfinite(value) & within
    if not good.all():
        where = np.unravel_index(int(np.argmin(good)), value.shape)
        element = f"[{', '.join(str(int(i)) for i in where)}]" if value.ndim else ""
        yield Violation(f"{field}{element}", f"is {value[where]}; expected a finite number{bound}")
    elif expected == "weight":
        # TFP reads the weights as they are in the CDF and normalised in the density; the two agree only when
        # the weights sum to 1.
        total = value.sum(axis=-1, dtype=np.float64)
        worst = total.flat[int(np.argmax(np.abs(total - 1)))]
        if abs(worst - 1) > 1e-3:
            yield Violation(field, f"sums to {worst:.6g} along its last axis; expected 1")


def network(given: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[dict[str, Array], list[Violation]]:
    """Checks the variables of a DeepFactorized: `matrix_i`, `bias_i` and `factor_i` of each layer.

    `given` has them by name, beside other arrays that share their dtype; `shape` is the batch shape. Returns
    all of `given` in one dtype.
    """
    variables, violations = common_dtype(given)
    matrices = [variables.get(f"matrix_{i}") for i in range(network_layers(given))]
    for name, value in variables.items():
        if name.partition("_")[0] in {"matrix", "bias", "factor"}:
            violations += domain(f"prior.{name}", "real", value)
    if violations:
        return {}, violations
    filters = [1, *(matrix.shape[1] if matrix is not None and matrix.ndim == 3 else 0 for matrix in matrices)]
    for name, value in variables.items():
        kind, _, layer = name.partition("_")
        if kind not in {"matrix", "bias", "factor"}:
            continue
        rows, columns = filters[int(layer) + 1], filters[int(layer)] if kind == "matrix" else 1
        if value.shape != (prod(shape), rows, columns):
            expectation = (prod(shape), rows or "filters", columns)
            violations.append(Violation(f"prior.{name}", f"has shape {value.shape}; expected {expectation}"))
    if filters[-1] != 1 and not violations:
        last = f"prior.matrix_{len(matrices) - 1}"
        violations.append(Violation(last, f"has {filters[-1]} outputs; expected 1"))
    return variables, violations


def network_layers(given: Mapping[str, Any]) -> int:
    """Number of layers i from 0 on whose `matrix_i` is given."""
    return next(layer for layer in count() if f"matrix_{layer}" not in given)


def network_names(layers: int) -> set[str]:
    """Names of the variables of a DeepFactorized with so many layers."""
    variables = {f"{kind}_{i}" for kind in ("matrix", "bias") for i in range(layers)}
    return variables | {f"factor_{i}" for i in range(layers - 1)}


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
