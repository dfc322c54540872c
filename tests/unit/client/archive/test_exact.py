"""Laws of exact elements: they come back bit for bit, in whatever parts, and hostile bytes are refused."""

from __future__ import annotations

import tracemalloc
import zlib
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import InvalidTensorError
from entropyd.archive.exact import BIT_PATTERNS, MAX_PACKED_BYTES, ExactElements
from entropyd.archive.layout import LayoutError

DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64")} | {
    "bfloat16": np.dtype(ml_dtypes.bfloat16)
}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)


@st.composite
def masked(draw: st.DrawFn) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """An array of any bit patterns, few of them, so that there are runs; and a mask."""
    name = draw(st.sampled_from(sorted(DTYPES)))
    unsigned, shape = BIT_PATTERNS[name], draw(SHAPES)
    edges = [0, 1 << 8 * unsigned.itemsize - 1, (1 << 8 * unsigned.itemsize) - 1]  # 0.0, -0.0, a NaN
    patterns = draw(st.lists(st.integers(0, edges[-1]), max_size=3)) + edges
    bits = draw(hnp.arrays(unsigned, shape, elements=st.sampled_from(patterns)))
    return bits.view(DTYPES[name]), draw(hnp.arrays(np.bool_, shape))


def bits_of(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def same(one: ExactElements, other: ExactElements) -> bool:
    return (one.dtype, one.elements) == (other.dtype, other.elements) and all(
        getattr(one, field).tolist() == getattr(other, field).tolist()
        for field in ("starts", "counts", "bits")
    )


@given(masked())
def test_they_have_the_bit_patterns_of_their_places(
    case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]],
) -> None:
    array, mask = case
    exact = ExactElements.of(array, mask)
    assert exact.positions.tolist() == np.flatnonzero(mask).tolist()
    assert bits_of(exact.values).tolist() == bits_of(array)[mask].tolist()
    assert len(exact) == int(mask.sum())
    if array.dtype != DTYPES["bfloat16"]:
        assert exact.values.dtype == array.dtype


@given(masked())
def test_unpacking_what_was_packed_gives_the_same(
    case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]],
) -> None:
    exact = ExactElements.of(*case)
    packed = exact.pack()
    assert (packed == b"") == (len(exact) == 0)
    assert same(ExactElements.unpack(packed, exact.dtype, exact.elements), exact)


@given(masked(), st.integers(0, 255))
def test_applying_them_restores_their_places_and_no_others(
    case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]], byte: int
) -> None:
    array, mask = case
    restored = np.full(array.size, byte, bits_of(array).dtype).view(array.dtype).reshape(array.shape)
    before = bits_of(restored).copy()
    exact = ExactElements.of(array, mask)
    whole = exact.applied(restored)
    assert bits_of(whole).tolist() == np.where(mask, bits_of(array), before).tolist()
    assert bits_of(restored).tolist() == before.tolist()
    assert whole.dtype == array.dtype
    assert (whole is restored) == (len(exact) == 0)


@given(masked(), st.data())
def test_parts_that_are_joined_are_the_whole(
    case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]], data: st.DataObject
) -> None:
    exact = ExactElements.of(*case)
    flat, mask = case[0].reshape(-1), case[1].reshape(-1)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, exact.elements), max_size=4))), exact.elements]
    parts = [(a, exact.part(a, b)) for a, b in pairwise(cuts)]
    for (a, part), b in zip(parts, cuts[1:], strict=True):
        assert same(part, ExactElements.of(flat[a:b], mask[a:b]))
    assert same(ExactElements.joined(parts, exact.dtype, exact.elements), exact)


def test_arrays_in_the_other_byte_order_or_in_strides_are_the_same() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    mask = array % 5 < 2
    exact = ExactElements.of(array, mask)
    for other in (array.astype(">f4"), np.asfortranarray(array)):
        assert same(ExactElements.of(other, mask), exact)
        assert exact.applied(np.zeros_like(other)).tolist() == np.where(mask, array, 0).tolist()


def test_a_signalling_nan_stays_one() -> None:
    bits = np.array([0x7F800001, 0xFF812345, 0x80000000], np.uint32)
    exact = ExactElements.of(bits.view(np.float32), np.ones(3, np.bool_))
    restored = ExactElements.unpack(exact.pack(), "float32", 3).applied(np.zeros(3, np.float32))
    assert restored.view(np.uint32).tolist() == bits.tolist()


def test_long_runs_and_regular_masks_take_few_bytes() -> None:
    field = np.full((720, 1440), np.nan, np.float32)
    sea = np.add.outer(np.arange(720), np.arange(1440)) % 400 < 150
    assert len(ExactElements.of(field, np.ones_like(sea)).pack()) < 20
    assert len(ExactElements.of(field, sea).pack()) < 8000  # of a million elements, 4 MB


@pytest.mark.parametrize("dtype", ["int32", "float128", "complex64", "|S3"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidTensorError, match="expected one of float16"):
        ExactElements.of(np.zeros(3, dtype), np.zeros(3, np.bool_))


@pytest.mark.parametrize(
    "mask", [np.ones(3, np.bool_), np.ones((2, 1), np.bool_), np.ones((2, 3), np.int8), np.array([0, 2])]
)
def test_a_mask_of_another_kind_or_shape_selects_nothing_without_a_word(mask: npt.NDArray[Any]) -> None:
    with pytest.raises(InvalidTensorError, match=r"the mask has dtype .* expected bool and \(2, 3\)"):
        ExactElements.of(np.zeros((2, 3), np.float32), mask)


def test_what_an_array_masks_itself_is_not_dropped() -> None:
    # NumPy gives its constructor no types.
    masked: Any = np.ma.masked_array(np.zeros(3, np.float32), mask=[1, 0, 0])  # type: ignore[no-untyped-call]
    with pytest.raises(InvalidTensorError, match="the array is a masked array"):
        ExactElements.of(masked, np.ones(3, np.bool_))
    with pytest.raises(InvalidTensorError, match="the mask is a masked array"):
        ExactElements.of(np.zeros(3, np.float32), masked == 0)


def test_an_array_of_another_size_or_dtype_is_refused() -> None:
    exact = ExactElements.of(np.zeros(3, np.float32), np.ones(3, np.bool_))
    for array in (np.zeros(4, np.float32), np.zeros(3, np.float64)):
        with pytest.raises(ValueError, match="exact ones of 3 of float32"):
            exact.applied(array)


def deflated(raw: bytes) -> bytes:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflate.compress(raw) + deflate.flush()


VALUES = b"\x02" + b"\0\0\0\0" + b"\1\0\0\0"


@pytest.mark.parametrize(
    "raw",
    [
        b"",  # no values
        b"\x80",  # a number that does not end
        b"\x00",  # no value
        VALUES,  # no run
        VALUES + b"\0\1",  # half a run
        VALUES + b"\0\0\0",  # a run of nothing
        VALUES + b"\0\1\2",  # a value that is not there
        VALUES + b"\x0a\1\0",  # behind the array's end
        VALUES + b"\0\x0b\0",  # across it
        VALUES + b"\0\x0a\0\0\1\0",  # a second run across it
        VALUES
        + (b"\xff" * 8 + b"\x7f") * 2
        + b"\0" * 1
        + (b"\xff" * 8 + b"\x7f") * 2
        + b"\0",  # sums overflow
        VALUES + b"\xff" * 9 + b"\x01\1\0",  # more than 63 bits
        b"\x02" + b"\1\0\0\0" + b"\0\0\0\0" + b"\0\1\0",  # values that do not rise
        b"\xff\xff\xff\x7f" + VALUES,  # more values than bytes
    ],
)
def test_what_is_malformed_is_refused(raw: bytes) -> None:
    with pytest.raises(LayoutError):
        ExactElements.unpack(deflated(raw), "float32", 10)


@given(st.binary(max_size=60), st.integers(0, 2**62), st.booleans())
def test_arbitrary_bytes_are_refused_or_are_some_elements(content: bytes, elements: int, whole: bool) -> None:
    try:
        exact = ExactElements.unpack(deflated(content) if whole else content, "float16", elements)
    except LayoutError:
        return
    assert (np.diff(exact.starts) >= exact.counts[:-1]).all()
    assert not len(exact.starts) or int(exact.starts[-1] + exact.counts[-1]) <= elements


def test_a_huge_run_takes_no_memory_until_it_is_applied() -> None:
    exact = ExactElements.unpack(deflated(VALUES + b"\0" + b"\xff" * 8 + b"\x3f" + b"\1"), "float32", 2**62)
    assert len(exact) == 2**62 - 1
    assert len(exact.part(2**40, 2**41)) == 2**40


def test_a_few_bytes_do_not_take_much_memory() -> None:
    bombs = [
        VALUES + b"\0\1\0" * (MAX_PACKED_BYTES // 3),
        b"\0" * 2 * MAX_PACKED_BYTES,
        b"\x80" * MAX_PACKED_BYTES,
    ]
    contents = [deflated(bomb) for bomb in bombs]
    del bombs
    tracemalloc.start()
    for content in contents:
        with pytest.raises(LayoutError):
            ExactElements.unpack(content, "float32", 100)
    assert tracemalloc.get_traced_memory()[1] < 16 * MAX_PACKED_BYTES
    tracemalloc.stop()


def test_too_many_runs_are_refused_when_they_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entropyd.archive.exact.MAX_PACKED_BYTES", 1000)
    array = np.arange(200, dtype=np.float32)
    assert ExactElements.of(array, array < 100).pack()
    with pytest.raises(InvalidTensorError, match=r"the array has exact elements in 200 runs"):
        ExactElements.of(array, array >= 0).pack()
