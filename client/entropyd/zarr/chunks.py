"""Chunks as archives, and archives as chunks."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd import bounded
from entropyd._model import Model
from entropyd.archive import Archive, ArchiveWriter
from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidTensorError
from entropyd.zarr.server import served_model


def check_dtype(name: str, max_error: float | None) -> None:
    """Refuses a dtype that no model codes with that max_error."""
    expected = bounded.DTYPES if max_error is not None else (*bounded.DTYPES, "bfloat16")
    if name not in expected:
        found = f"have dtype {name}; expected {', '.join(expected[:-1])} or {expected[-1]}"
        raise InvalidTensorError.at("data", found)


def compressed_chunk(
    model: Model, chunk: npt.NDArray[Any], max_error: float | None, missing: Sequence[float]
) -> bytes:
    """The archive of a chunk.

    Args:
      model: Model of the codec.
      chunk: Any shape and memory layout, of a dtype that `check_dtype` accepts.
      max_error: That of the codec.
      missing: As `bounded.missing_values` gives them, with the array's fill value.

    Raises:
      InvalidRequestError, InvalidTensorError, LimitExceededError, ModelStateError: As `Model.compress` and
        `bounded.compress`.
    """
    chunk, _ = read_array("chunk", chunk)  # may be a masked array, if it was written to a whole chunk
    chunk = np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("="))
    bound = None
    if max_error is not None:
        bound = bounded.ErrorBound.holding(max_error, chunk, model.config.bottleneck_dtype, missing)
    compressed, exact = bounded.compress_elements(model, chunk, bound, missing)
    shape = compressed.batch_shape + compressed.broadcast_shape + model.prior_shape
    if shape != chunk.shape:
        found = f"have shape {chunk.shape}, which prior_shape {model.prior_shape} makes {shape}"
        raise InvalidTensorError.at("chunks", f"{found}; expected chunks that end in it")
    stream = BytesIO()
    exact_dtype = exact.dtype if len(exact) else None
    metadata = {} if bound is None else bound.metadata
    with ArchiveWriter(stream, metadata=metadata, exact_dtype=exact_dtype) as writer:
        writer.append(compressed, exact)
    return stream.getvalue()


def restored_chunk(content: bytes) -> npt.NDArray[Any]:
    """Restores the chunk of an archive; errors as `Archive.from_bytes` and `Model.decompress`."""
    with Archive.from_bytes(content, "a chunk") as archive:
        bound = bounded.ErrorBound.of(archive.metadata)
        restored = served_model(archive.model_id).decompress(archive.read())
        return archive.exact().applied(restored if bound is None else bound.data(restored))
