"""Compression of data that is no latent, with a bound on the error of every element.

Universal quantization keeps a bottleneck within 1/2 of itself. Data x that are divided by a step of about
2 * max_error and multiplied by it again therefore keep within max_error.

Owns the step, and what floating point does to the bound. It must not know files beyond the metadata that
carry the step. Invariant: |x - restored| <= max_error, computed exactly, for every element of what `compress`
returned; where the numbers' own precision is too coarse for that, it refuses.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.archive import Archive, CompressedTensor
from entropyd.contract.arrays import array_of
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, Violation

if TYPE_CHECKING:
    import os

    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd._model import Model

METADATA_NAME = "entropyd.bounded"
# Half the distance between neighbours of 1: the largest relative error of rounding to the dtype.
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
_PIECE_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class ErrorBound:
    """How data become a bottleneck and come back.

    Attributes:
      max_error: Largest distance of a restored element from the original, above 0.
      step: What data are divided by.
      dtype: Type of the data, and of what is restored: `float16`, `float32` or `float64`.
    """

    max_error: float
    step: float
    dtype: str

    @classmethod
    def holding(cls, max_error: float, data: npt.NDArray[Any], bottleneck_dtype: str) -> Self:
        """The widest step with which rounding cannot break the bound.

        With e the rounding error of bottleneck_dtype and M the largest magnitude, dividing, subtracting and
        adding the quantization offset, and storing what was restored err by at most 4 e M + 2 e step in all;
        rounding the result to the data's dtype, by that dtype's error times M + max_error, or by half its
        smallest number.

        Args:
          max_error: Largest error of an element.
          data: Any shape; float16, float32 or float64. May be memory-mapped: it is read in pieces.
          bottleneck_dtype: The model's.

        Raises:
          InvalidTensorError: If data are not finite floats, or max_error is less than their precision
            allows; says what it allows.
        """
        if data.dtype.kind != "f" or data.dtype.name not in _ROUNDING:
            raise _invalid("data", f"have dtype {data.dtype.name}; expected float16, float32 or float64")
        if not 0 < max_error < math.inf:
            raise _invalid("max_error", f"is {max_error}; expected a finite number above 0")
        largest = _largest_magnitude(data)
        if not math.isfinite(largest):
            raise _invalid("data", "have NaN or infinities, which no finite error bounds")
        inner, outer = _ROUNDING[bottleneck_dtype], _ROUNDING[data.dtype.name] + 2.0**-52
        # Numbers below the dtype's normal ones are rounded to multiples of the smallest, not relatively.
        smallest = float(np.finfo(data.dtype).smallest_subnormal) / 2
        slack = 4 * inner * largest + outer * (largest + max_error) + smallest
        if slack > max_error / 2:
            least = 2.1 * ((4 * inner + outer) * largest + smallest)
            found = f"is {max_error:g}; expected at least {least:.2g} for values up to {largest:g} "
            found += f"as {data.dtype.name} through a model of {bottleneck_dtype}"
            raise _invalid("max_error", found)
        return cls(max_error, 2 * (max_error - slack) / (1 + 4 * inner), data.dtype.name)

    @classmethod
    def of(cls, metadata: Any) -> Self | None:
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
            raise InvalidRequestError.of([Violation(f"metadata.{METADATA_NAME}", what)]) from error
        if bound.dtype not in {"float16", "float32", "float64"} or not 0 < bound.step < math.inf:
            what = f"is {found!r:.80}; expected a float's dtype and a finite step"
            raise InvalidRequestError.of([Violation(f"metadata.{METADATA_NAME}", what)])
        return bound

    @property
    def metadata(self) -> dict[str, Any]:
        """What an archive has to carry."""
        return {METADATA_NAME: asdict(self)}

    def bottleneck(self, data: npt.NDArray[Any], bottleneck_dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Data as the model takes them."""
        return (data.astype(np.float64) / self.step).astype(bottleneck_dtype)

    def data(self, bottleneck: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the model restored, as data."""
        return (bottleneck.astype(np.float64) * self.step).astype(self.dtype)

    def check(self, data: npt.NDArray[Any], restored: npt.NDArray[Any]) -> None:
        """Makes sure of the bound.

        Raises:
          InvalidTensorError: If it does not hold, naming the worst element.
        """
        distance = np.abs(data.astype(np.float64) - restored.astype(np.float64))
        if distance.size and not distance.max() <= self.max_error:
            worst = tuple(int(axis) for axis in np.unravel_index(distance.argmax(), distance.shape))
            found = f"element {worst} would be restored with an error of {distance.max():g}"
            raise _invalid("data", f"{found}; expected at most {self.max_error:g}")


@dataclass(frozen=True)
class BoundedTensor:
    """Compressed data and the bound that they keep.

    Attributes:
      compressed: The bit strings, of the data divided by the step.
      bound: The step, and what it promises.
    """

    compressed: CompressedTensor
    bound: ErrorBound

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an archive that carries the bound; see CompressedTensor.save."""
        self.compressed.save(path, metadata=self.bound.metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads an archive that carries a bound; errors as CompressedTensor.load.

        Raises:
          InvalidRequestError: If it carries none.
        """
        with Archive.open(path) as archive:
            bound = ErrorBound.of(archive.metadata)
            if bound is None:
                found = f"is missing in {path}: its values were compressed as they are"
                raise InvalidRequestError.of([Violation(f"metadata.{METADATA_NAME}", found)])
            return cls(archive.read(), bound)


def compress(model: Model, data: npt.NDArray[Any], max_error: float) -> BoundedTensor:
    """Compresses data so that every element comes back within `max_error`.

    What was compressed is restored once and compared, so that the promise does not rest on this module's
    arithmetic alone.

    Args:
      model: Fitted to such data divided by 2 * max_error.
      data: Shaped as `Model.compress` takes it; float16, float32 or float64, or nested lists of numbers,
        which are float64.
      max_error: Largest error of an element.

    Raises:
      InvalidTensorError: If data are of another kind or not finite, or the bound cannot be held in their
        precision.
    """
    data = array_of("data", data, "float16", "float32", "float64", numbers="float64")
    bound = ErrorBound.holding(max_error, data, model.config.bottleneck_dtype)
    compressed = model.compress(bound.bottleneck(data, model.bottleneck_dtype))
    bound.check(data, bound.data(model.decompress(compressed)))
    return BoundedTensor(compressed, bound)


def decompress(model: Model, tensor: BoundedTensor) -> npt.NDArray[Any]:
    """Restores data in their own dtype; errors as `Model.decompress`."""
    return tensor.bound.data(model.decompress(tensor.compressed))


def _largest_magnitude(data: npt.NDArray[Any]) -> float:
    """Largest absolute value, NaN if there is one, in memory of a piece."""
    largest = 0.0
    # NumPy types the iterator by its yielding tuples; over one operand it yields that operand's pieces.
    pieces: Any = np.nditer(
        data, ["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=_PIECE_ELEMENTS
    )
    for piece in pieces:
        if piece.size:
            largest = float(np.maximum(largest, np.maximum(piece.max(), -piece.min())))
    return largest


def _invalid(field: str, description: str) -> InvalidTensorError:
    return InvalidTensorError.of([Violation(field, description)])
