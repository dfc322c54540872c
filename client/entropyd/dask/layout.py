"""How chunks of a dask.array become chunks of a Zarr array.

Invariant: a Zarr chunk lies within one chunk of the dask.array that is written, so that one task writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, Violation

# Zarr chunks are no larger by default. Coding one takes several times its size in memory.
_CHUNK_BYTES = 16 * 2**20
# Parts into which a Dask chunk is cut, in terms of the least number, to find one that divides it.
_TRIED = 4

Slices = tuple[slice, ...]


def check_array(array: Any) -> None:
    """Refuses what is no dask.array of plain NumPy arrays with known chunks.

    Raises:
      InvalidTensorError: Names what it is.
    """
    if not isinstance(array, da.Array):
        raise InvalidTensorError.at("array", f"is a {type(array).__name__}; expected a dask.array")
    meta = array._meta  # noqa: SLF001 - the only way that Dask tells it
    if type(meta) is not np.ndarray:
        found = f"has chunks of type {type(meta).__name__}; expected numpy.ndarray, with gaps filled"
        raise InvalidTensorError.at("array", found)
    if any(np.isnan(size) for size in array.shape):
        found = f"has shape {array.shape}; expected known sizes, as `array.compute_chunk_sizes()` finds them"
        raise InvalidTensorError.at("array", found)


def zarr_chunks(array: da.Array, whole_axes: int, chunks: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of the Zarr chunks of an array.

    Args:
      array: As `check_array` accepts it.
      whole_axes: Number of innermost axes that are not cut.
      chunks: The shape that a caller asked for; None for Dask's own chunks, cut along the outer axes to at
        most 16 MiB where they can be cut evenly.

    Raises:
      InvalidRequestError: If `chunks` is no shape for the array.
    """
    if chunks is not None:
        return _checked(chunks, array.ndim)
    shape = [max(sizes, default=1) or 1 for sizes in array.chunks]
    cut_axes = max(array.ndim - whole_axes, 0)
    shape[cut_axes:] = [size or 1 for size in array.shape[cut_axes:]]
    for axis in range(cut_axes):
        least = -(-prod(shape) * array.dtype.itemsize // _CHUNK_BYTES)
        if least > 1:
            shape[axis] = _cut(shape[axis], least)
    return tuple(int(size) for size in shape)


def _checked(chunks: Any, rank: int) -> tuple[int, ...]:
    try:
        found = tuple(int(size) for size in chunks if size == int(size) and size > 0)
    except (TypeError, ValueError):
        found = ()
    if len(found) != rank or len(chunks) != rank:
        raise InvalidRequestError.of(
            [Violation("chunks", f"is {chunks!r:.80}; expected {rank} lengths above 0, one for each axis")]
        )
    return found


def _cut(size: int, least: int) -> int:
    """The length of equal parts of an axis: at least that many, or of 1 if the axis is shorter."""
    if least >= size:
        return 1
    for parts in range(least, min(_TRIED * least, size) + 1):
        if size % parts == 0:
            return size // parts
    return size


def aligned(array: da.Array, chunks: tuple[int, ...]) -> da.Array:
    """The array with chunks that begin where Zarr chunks begin; the same one where they do so already.

    Others are made anew with Dask's own `rechunk`: no smaller than a Zarr chunk, else no larger than before.
    """
    new: list[tuple[int, ...] | int] = []
    for sizes, size in zip(array.chunks, chunks, strict=True):
        if all(one % size == 0 for one in sizes[:-1]):
            new.append(sizes)
        else:
            new.append(max(max(sizes) // size, 1) * size)
    return array.rechunk(tuple(new))


def chunks_within(region: Slices, chunks: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Slices]]:
    """The Zarr chunks of a region that begins where one begins.

    Yields:
      Coordinates of the chunk in the chunk grid, and its slices of the array.
    """
    axes = [
        [
            (start // size, slice(start, min(start + size, part.stop)))
            for start in range(part.start, part.stop, size)
        ]
        for part, size in zip(region, chunks, strict=True)
    ]
    for chunk in product(*axes):
        yield tuple(number for number, _ in chunk), tuple(part for _, part in chunk)


def regions(array: da.Array) -> Iterator[tuple[tuple[int, ...], Slices]]:
    """The number of each chunk of a dask.array along every axis, and its slices."""
    starts = [np.cumsum((0, *sizes)).tolist() for sizes in array.chunks]
    for block in np.ndindex(array.numblocks):
        yield block, tuple(slice(start[at], start[at + 1]) for at, start in zip(block, starts, strict=True))
