"""Laws of how Dask's chunks become Zarr's: each Zarr chunk lies in one Dask chunk, and all are covered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

da = pytest.importorskip("dask.array")

from entropyd.dask.layout import aligned, chunks_within, regions, zarr_chunks  # noqa: E402

AXES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3)


def array_of(chunks: Any) -> Any:
    shape = tuple(map(sum, chunks))
    return da.zeros(shape, chunks=tuple(map(tuple, chunks)), dtype=np.float32)


@given(AXES, st.data())
def test_each_zarr_chunk_lies_in_one_dask_chunk_and_all_elements_in_one_zarr_chunk(
    chunks: list[list[int]], data: st.DataObject
) -> None:
    array = array_of(chunks)
    lengths = st.tuples(*(st.integers(1, size + 2) for size in array.shape))
    asked = data.draw(st.none() | lengths)
    shape = zarr_chunks(array, data.draw(st.integers(0, array.ndim)), asked)
    assert asked in {None, shape}
    times = np.zeros(array.shape, int)
    seen = set()
    for _, region in regions(aligned(array, shape)):
        for chunk, part in chunks_within(region, shape):
            assert chunk not in seen
            seen.add(chunk)
            times[part] += 1
            for number, length, one, size in zip(chunk, shape, part, array.shape, strict=True):
                assert (one.start, one.stop) == (number * length, min((number + 1) * length, size))
    assert (times == 1).all()
    assert len(seen) == math.prod(-(-size // length) for size, length in zip(array.shape, shape, strict=True))


def test_chunks_that_are_aligned_are_not_made_anew() -> None:
    array = array_of([[6, 2, 4, 1], [5]])
    assert aligned(array, (2, 5)) is array


@pytest.mark.parametrize(
    ("shape", "chunks", "whole_axes", "expected"),
    [
        ((2**14, 2**12), (2**12, 2**12), 1, (2**10, 2**12)),
        ((2**14, 2**12), (2**11, 2**12), 0, (2**10, 2**12)),
        ((100, 2**25), (10, 2**25), 1, (1, 2**25)),
        ((100, 2**25), (10, 2**25), 0, (1, 2**22)),
        ((4, 7), (2, 3), 1, (2, 7)),
        ((3, 2**20), (3, 2**20), 1, (3, 2**20)),
        ((6000, 2**10), (5000, 2**10), 1, (2500, 2**10)),
        ((4099, 2**13), (4099, 2**13), 1, (4099, 2**13)),  # a prime number of rows is not cut
    ],
)
def test_chunks_are_cut_evenly_along_the_outer_axes_where_they_are_large(
    shape: tuple[int, ...], chunks: tuple[int, ...], whole_axes: int, expected: tuple[int, ...]
) -> None:
    array = da.zeros(shape, chunks=chunks, dtype=np.float32)
    assert zarr_chunks(array, whole_axes, None) == expected
