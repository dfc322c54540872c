"""`compress`, `decompress` and BoundedTensor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd._model import Model
from entropyd.archive import Archive, ArchiveWriter, CompressedTensor, ExactElements, MeasuredTensor
from entropyd.bounded.bound import DTYPES, METADATA_NAME, ErrorBound
from entropyd.bounded.filler import filled
from entropyd.bounded.missing import missing_mask, missing_values
from entropyd.contract.arrays import array_of
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError


@dataclass(frozen=True)
class BoundedTensor:
    """Compressed data with a bound on their error.

    Attributes:
      compressed: The bit strings, of the data divided by the step.
      bound: The bound.
      exact: The elements that are restored exactly: missing ones, and those that rounding would carry beyond
        the bound.
    """

    compressed: CompressedTensor
    bound: ErrorBound
    exact: ExactElements

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an archive with the bound; see CompressedTensor.save."""
        dtype = self.bound.dtype if len(self.exact) else None
        with ArchiveWriter(path, metadata=self.bound.metadata, exact_dtype=dtype) as writer:
            writer.append(self.compressed, self.exact)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BoundedTensor:
        """Reads an archive with a bound; errors as CompressedTensor.load.

        Raises:
          InvalidRequestError: If it has none.
        """
        with Archive.open(path) as archive:
            bound = ErrorBound.of(archive.metadata)
            if bound is None:
                found = f"is missing in {path}: its values were compressed as they are"
                raise InvalidRequestError.at(f"metadata.{METADATA_NAME}", found)
            return cls(archive.read(), bound, archive.exact())


def compress(
    model: Model, data: npt.NDArray[Any], max_error: float, missing: Sequence[float] = ()
) -> BoundedTensor:
    """Compresses data so that every element is restored within `max_error`.

    Compressing a restored array restores the same array, bit for bit. NaN, and elements that equal a value of
    `missing`, are restored exactly, and no other element is restored as one of those values.

    Args:
      model: Fitted to such data divided by 2 * max_error.
      data: Shaped as `Model.compress` takes it; float16, float32 or float64, or nested lists of numbers,
        which are float64.
      max_error: Largest error of an element that is not missing.
      missing: Values that mark missing data, such as -9999. Other infinities are refused.

    Raises:
      InvalidRequestError: If the model takes indexes.
      InvalidTensorError: If data are no floats or not finite, or their precision does not suffice for the
        bound.
    """
    data = array_of("data", data, *DTYPES, numbers="float64")
    missing = missing_values(missing)
    bound = ErrorBound.holding(max_error, data, model.config.bottleneck_dtype, missing)
    compressed, exact = compress_elements(model, data, bound, missing)
    return BoundedTensor(compressed, bound, exact)


def compress_elements(
    model: Model, data: npt.NDArray[Any], bound: ErrorBound | None, missing: Sequence[float]
) -> tuple[MeasuredTensor, ExactElements]:
    """Compresses an array, and finds the elements to store beside the bit strings.

    Args:
      model: Any; with a bound, one for such data divided by its step.
      data: Shaped as `Model.compress` takes it. With a bound, of the bound's dtype; without one, of
        bottleneck_dtype.
      bound: With a bound, the bit strings are decompressed and compared with the data, so that the bound does
        not rest on arithmetic alone; None compresses the array as it is.
      missing: Values to restore exactly, as `missing_values` gives them; NaN always is.

    Returns:
      The bit strings, and the exact elements of the restored array.

    Raises:
      InvalidRequestError: If the model takes indexes.
      InvalidTensorError, LimitExceededError: As `Model.compress`.
    """
    if model.index_ranges is not None:
        found = f"is of kind {model.config.kind}, which takes indexes; expected a kind without them"
        raise InvalidRequestError.at("model", found)
    absent = missing_mask(data, missing)
    present = np.where(absent, np.zeros((), data.dtype), data) if absent.any() else data
    bottleneck = present if bound is None else bound.bottleneck(present, model.bottleneck_dtype)
    try:
        compressed = model.compress(filled(model, bottleneck, absent))
    except InvalidTensorError as error:
        if bound is None:
            raise
        found = f"{error.message} (the bottleneck is the data divided by {bound.step:g})"
        raise InvalidTensorError(found, metadata=error.metadata, violations=error.violations) from error
    shape = compressed.batch_shape + compressed.broadcast_shape + model.prior_shape
    data = np.broadcast_to(data, shape)
    if bound is None:
        return compressed, ExactElements.of(data, np.broadcast_to(absent, shape))
    restored = bound.data(model.decompress(compressed))
    return compressed, bound.exact(data, restored, model.config.bottleneck_dtype, missing)


def decompress(model: Model, tensor: BoundedTensor) -> npt.NDArray[Any]:
    """Restores data in their own dtype; errors as `Model.decompress`."""
    return tensor.exact.applied(tensor.bound.data(model.decompress(tensor.compressed)))
