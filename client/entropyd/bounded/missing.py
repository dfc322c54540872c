"""Missing values: numbers that stand for no datum, as NaN and the fill values of many file formats.

Elements that equal one come back bit for bit. NaN always counts, whatever its bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.errors import InvalidTensorError, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_BY_NAME = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def missing_values(found: Any) -> tuple[float, ...]:
    """The values that are named as missing, rising, each once; NaN, which always counts, is left out.

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
    """What is wrong with values that are named as missing; None if nothing is."""
    listed = isinstance(found, (list, tuple, set, frozenset)) or np.ndim(found) == 1
    if listed and all(is_number(value) for value in found):
        return None
    return Violation("missing", f"is {found!r:.80}; expected a sequence of numbers")


def is_number(value: Any) -> bool:
    """Whether it is a real number in float64's range, of Python or NumPy; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        float(value)
    except OverflowError:  # an integer beyond the range
        return False
    return True


def missing_to_json(missing: Sequence[float]) -> list[float | str]:
    """Missing values for a JSON document, which holds no infinities: those by name, as in Zarr."""
    names = {value: name for name, value in _BY_NAME.items()}
    return [names.get(value, value) for value in missing]


def missing_from_json(found: Any) -> Any:
    """Missing values of a JSON document; what is not in the form of one is left as it is."""
    if not isinstance(found, list):
        return found
    return tuple(_BY_NAME.get(value, value) if isinstance(value, str) else value for value in found)


def missing_mask(data: npt.NDArray[Any], missing: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which elements are missing: NaN, or equal to one of the values in the data's dtype."""
    mask = np.asarray(np.isnan(data))
    for value in missing:
        with np.errstate(over="ignore"):
            of_dtype = np.asarray(value).astype(data.dtype)
        if np.isfinite(of_dtype) or math.isinf(value):  # what is beyond the dtype equals no element
            mask |= data == of_dtype
    return mask
