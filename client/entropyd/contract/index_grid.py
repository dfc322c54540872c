"""Values of the parameters of an indexed prior over the grid of all indexes.

Their axes are those of index_ranges, and one more for the components of a mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from entropyd.contract import parameters as checks
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.families import Family
from entropyd.contract.index_functions import MAX_VALUES, IndexFunction


def evaluated(
    family: Family, given: Mapping[str, Any], nested_dtype: str | None, ranges: tuple[int, ...]
) -> tuple[dict[str, Any], list[Violation]]:
    """All parameters, with the values of functions in their place.

    Parameters that are no functions are unchanged and unchecked. A function that is wrong is left out.
    """
    functions = {name: value for name, value in given.items() if isinstance(value, IndexFunction)}
    values = {name: value for name, value in given.items() if name not in functions}
    numeric = {name: values[name] for name in family.arrays if name in values}
    arrays, _ = checks.common_dtype(numeric, nested_dtype)
    dtype = next((array.dtype.name for array in arrays.values()), nested_dtype or "float32")
    counted = "weight" in family.arrays or any(array.ndim > len(ranges) for array in arrays.values())
    counted = counted or any(function.components is not None for function in functions.values())
    violations: list[Violation] = []
    for name, function in functions.items():
        field = f"prior.{name:.80}"
        problems = list(function.problems(field, ranges))
        if family.arrays.get(name, "real") == "one positive":
            problems.append(Violation(field, "is a function of the index; expected one number"))
        violations += problems
        if not problems:
            values[name] = function.on_grid(ranges, dtype, counted=counted)
    return values, violations


def spread(
    family: Family, parameters: Mapping[str, Any], batch_shape: tuple[int, ...], ranges: tuple[int, ...]
) -> dict[str, Any]:
    """The parameters of a prior whose batch shape falls short of the ranges, one of them over the whole grid.

    They are unchanged if they cannot be.

    Raises:
      InvalidConfigError: If that would take too many values.
    """
    name = next(
        (n for n in ("weight", *family.arrays) if family.arrays.get(n, "one positive") != "one positive"),
        None,
    )
    if name is None:
        return dict(parameters)
    components = parameters[name].shape[-1:] if name == "weight" else batch_shape[len(ranges) :]
    shape = (*ranges, *components)
    if prod(shape) > MAX_VALUES:
        found = f"has {prod(shape)} values over index_ranges; expected at most {MAX_VALUES}"
        raise InvalidConfigError.at(f"prior.{name}", found)
    try:
        return {**parameters, name: np.broadcast_to(parameters[name], shape)}
    except ValueError:
        return dict(parameters)
