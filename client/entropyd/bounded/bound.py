"""The step of an error bound, and the effect of floating-point rounding on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.archive import ExactElements
from entropyd.bounded.missing import is_number, missing_mask
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, Violation

METADATA_NAME = "entropyd.bounded"
DTYPES = ("float16", "float32", "float64")
# Largest relative error of rounding to the dtype.
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
# Share of the bound that is reserved for rounding.
_MARGIN = 2.0**-8
_LARGEST_ERROR = 2.0**1022
_BUFFER_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class ErrorBound:
    """How data become a bottleneck, and restored data again.

    Attributes:
      max_error: Largest distance of a restored element from the original, above 0.
      step: Divisor of the data.
      dtype: dtype of the data and of restored data: `float16`, `float32` or `float64`.
    """

    max_error: float
    step: float
    dtype: str

    @classmethod
    def holding(
        cls, max_error: float, data: npt.NDArray[Any], bottleneck_dtype: str, missing: Sequence[float] = ()
    ) -> ErrorBound:
        """The bound for some data, if their precision suffices.

        The step depends on max_error alone, not on the data: 2 * max_error * (1 - 2^-8). Restored data lie
        on its grid, so compressing them again does not change them. Quantization uses 1 - 2^-8 of the bound,
        which leaves the rest for rounding. This margin costs log2(1 / (1 - 2^-8)) = 0.006 bits a symbol. An
        element that rounding carries beyond the bound is stored exactly, in ten to forty bits, so the margin
        pays if it avoids one such element in a few thousand. There are none while the roundings of `reach`
        are less than 2^-8 max_error: with float32 data and bottleneck, up to magnitudes of 13,000 max_error.

        Args:
          max_error: Largest error of an element.
          data: Any shape; float16, float32 or float64. May be memory-mapped: it is read in parts.
          bottleneck_dtype: The model's.
          missing: Values that do not count; NaN never counts.

        Raises:
          InvalidTensorError: If data are no floats or infinite, or max_error is not a number above 0 or is
            less than their precision allows; says the least that it allows.
        """
        problem = max_error_problem(max_error)
        if problem is not None:
            raise InvalidTensorError.of([problem])
        if data.dtype.name not in DTYPES:
            found = f"have dtype {data.dtype.name}; expected float16, float32 or float64"
            raise InvalidTensorError.at("data", found)
        max_error = float(max_error)
        bound = cls(max_error, 2 * max_error * (1 - _MARGIN), data.dtype.name)
        largest = _largest_magnitude(data, missing)
        if math.isinf(largest):
            found = "have infinities; expected finite numbers, or `missing` to name the infinities"
            raise InvalidTensorError.at("data", found)
        if largest > bound.reach(bottleneck_dtype):
            relative, smallest = bound._rounding(bottleneck_dtype)
            least = 2.1 * (relative * largest + smallest)
            found = f"is {max_error:g}; expected at least {least:.2g} for values up to {largest:g} "
            found += f"as {data.dtype.name} through a model of {bottleneck_dtype}; "
            found += "values that `missing` names do not count"
            raise InvalidTensorError.at("max_error", found)
        return bound

    def reach(self, bottleneck_dtype: str) -> float:
        """The largest magnitude at which rounding takes at most half of the bound.

        With e the rounding error of bottleneck_dtype and M the magnitude, dividing, subtracting and adding
        the quantization offset, and storing what was restored err by at most 4 e M in all; rounding the
        result to the data's dtype, by that dtype's error times M + max_error, or by half its smallest number.
        Up to here a restored element is nearer to its own grid point than to any other, by far, so that it
        is restored to itself when it is compressed again.
        """
        relative, smallest = self._rounding(bottleneck_dtype)
        outer = _ROUNDING[self.dtype] + 2.0**-52
        return (self.max_error / 2 - outer * self.max_error - smallest) / relative

    def _rounding(self, bottleneck_dtype: str) -> tuple[float, float]:
        """Largest error by rounding: relative to the magnitude, and whatever the magnitude."""
        relative = 4 * _ROUNDING[bottleneck_dtype] + _ROUNDING[self.dtype] + 2.0**-52
        # Numbers below the dtype's normal ones are rounded to multiples of the smallest, not relatively.
        return relative, float(np.finfo(self.dtype).smallest_subnormal) / 2

    @classmethod
    def of(cls, metadata: Any) -> ErrorBound | None:
        """The bound that an archive's metadata carry, None where they carry none.

        Raises:
          InvalidRequestError: If they carry something else under its name.
        """
        found = metadata.get(METADATA_NAME)
        if found is None:
            return None
        try:
            bound = cls(float(found["max_error"]), float(found["step"]), str(found["dtype"]))
        except (KeyError, TypeError, ValueError) as error:
            what = f"is {found!r:.80}; expected max_error, step and dtype"
            raise InvalidRequestError.at(f"metadata.{METADATA_NAME}", what) from error
        if bound.dtype not in DTYPES or not 0 < bound.step < math.inf:
            what = f"is {found!r:.80}; expected a float's dtype and a finite step"
            raise InvalidRequestError.at(f"metadata.{METADATA_NAME}", what)
        return bound

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of an archive with this bound."""
        return {METADATA_NAME: asdict(self)}

    def bottleneck(self, data: npt.NDArray[Any], bottleneck_dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The bottleneck of some data."""
        return (data.astype(np.float64) / self.step).astype(bottleneck_dtype)

    def data(self, bottleneck: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The data of a restored bottleneck."""
        with np.errstate(over="ignore"):  # infinities are beyond the bound, and stored exactly
            return (bottleneck.astype(np.float64) * self.step).astype(self.dtype)

    def exact(
        self,
        data: npt.NDArray[Any],
        restored: npt.NDArray[Any],
        bottleneck_dtype: str,
        missing: Sequence[float],
    ) -> ExactElements:
        """The elements to store beside the bit strings.

        Missing elements and those beyond the bound are restored exactly. So are those that would be restored
        beyond `reach`, where compressing them again would be refused. An element that would be restored as a
        missing value is restored as the neighbour of that value on its side.

        Args:
          data: The original, in the bound's dtype.
          restored: What the bit strings restore, of the same shape.
          bottleneck_dtype: The model's.
          missing: As in `missing_mask`.
        """
        absent = missing_mask(data, missing)
        wide = restored.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            exact = ~(np.abs(data.astype(np.float64) - wide) <= self.max_error)
        exact |= ~(np.abs(wide) <= self.reach(bottleneck_dtype))
        exact |= absent
        taken = missing_mask(restored, missing) & ~exact
        if not taken.any():
            return ExactElements.of(data, exact)
        neighbour = np.nextafter(restored, data)
        beside = taken & ~missing_mask(neighbour, missing)
        return ExactElements.of(np.where(beside, neighbour, data), exact | taken)


def max_error_problem(found: Any) -> Violation | None:
    """The problem of a bound on the error; None if it has none."""
    if is_number(found) and 0 < found <= _LARGEST_ERROR:
        return None
    return Violation("max_error", f"is {found!r:.80}; expected a finite number above 0")


def _largest_magnitude(data: npt.NDArray[Any], missing: Sequence[float]) -> float:
    """Largest absolute value of elements that are not missing, in bounded memory."""
    largest = 0.0
    # NumPy's type of the iterator yields tuples; with one operand it yields parts of that operand.
    parts: Any = np.nditer(
        data, ["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=_BUFFER_ELEMENTS
    )
    for part in parts:
        absent = missing_mask(part, missing)
        present = part[~absent] if absent.any() else part
        if present.size:
            largest = max(largest, float(present.max()), -float(present.min()))
    return largest
