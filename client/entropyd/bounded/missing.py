"""Missing values: numbers that mark missing data, such as NaN and the fill values of many file formats.

Elements that equal one are restored exactly. NaN is always one, whatever its bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidTensorError, Violation

_BY_NAME = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def missing_values(found: Any) -> tuple[float, ...]:
    """Missing values, ascending, without duplicates and without NaN, which always is one.

    Args:
      found: A sequence of numbers.

    Raises:
      InvalidTensorError: If it is anything else.
    """
    problem = missing_problem(found)
    if problem is not None:
        raise InvalidTensorError.of([problem])
    return tuple(sorted({float(value) for value in found if not math.isnan(value)}))


def missing_problem(found: Any) -> Violation | None:
    """The problem of a list of missing values; None if it has none."""
    listed = isinstance(found, (list, tuple, set, frozenset)) or np.ndim(found) == 1
    if listed and all(is_number(value) for value in found):
        return None
    return Violation("missing", f"is {found!r:.80}; expected a sequence of numbers")


def is_number(value: Any) -> bool:
    """Whether it is a real number in float64's range, of Python or NumPy, and no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        float(value)
    except OverflowError:  # an integer beyond the range
        return False
    return True


def missing_to_json(missing: Sequence[float]) -> list[float | str]:
    """Missing values for a JSON document; infinities by name, as in Zarr, as JSON has none."""
    names = {value: name for name, value in _BY_NAME.items()}
    return [names.get(value, value) for value in missing]


def missing_from_json(found: Any) -> Any:
    """Missing values of a JSON document; anything of another form is returned as it is."""
    if not isinstance(found, list):
        return found
    return tuple(_BY_NAME.get(value, value) if isinstance(value, str) else value for value in found)


def missing_mask(data: npt.NDArray[Any], missing: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which elements are missing: NaN, or equal to one of the values in the data's dtype."""
    mask = np.asarray(np.isnan(data))
    for value in missing:
        with np.errstate(over="ignore"):
            of_dtype = np.asarray(value).astype(data.dtype)
        if np.isfinite(of_dtype) or math.isinf(value):  # a value beyond the dtype's range equals no element
            mask |= data == of_dtype
    return mask
