"""Laws of the location: TFC's arithmetic to the bit, and no array of a caller is written to."""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidTensorError
from entropyd._location import less_location, location_array, plus_location, summed_to

FLOATS = ("float16", "bfloat16", "float32", "float64")


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@pytest.mark.parametrize("model_dtype", FLOATS)
@given(
    st.sampled_from(FLOATS),
    st.sampled_from((*FLOATS, "int8", "int32", "int64", "uint8")),
    st.integers(0, 2**32 - 1),
)
def test_arithmetic_is_that_of_subtracting_in_place_and_adding(
    model_dtype: str, x_dtype: str, loc_dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 30, (4, 5)).astype(dtype_of(x_dtype))
    loc = np.abs(rng.normal(0, 30, (4, 5))).astype(dtype_of(loc_dtype))
    before = x.copy(), loc.copy()
    x.setflags(write=False)
    loc.setflags(write=False)

    difference = less_location(x, location_array(loc), model_dtype, in_place=True)
    restored = plus_location(difference, location_array(loc))

    # What TFC does to a caller's array: https://github.com/tensorflow/compression, LocationScale.compress.
    in_place = x.copy()
    np.subtract(in_place, loc, out=in_place, casting="unsafe")
    expected = in_place.astype(dtype_of(model_dtype))
    assert difference.dtype == restored.dtype == expected.dtype
    assert difference.tobytes() == expected.tobytes()
    assert restored.tobytes() == (expected + loc.astype(expected.dtype)).tobytes()
    promoted = less_location(x, loc, model_dtype, in_place=False)
    assert promoted.tobytes() == (x - loc).astype(expected.dtype).tobytes()
    assert (x.tobytes(), loc.tobytes()) == (before[0].tobytes(), before[1].tobytes())
    assert not restored.flags.writeable


def test_float64_is_subtracted_before_it_is_rounded() -> None:
    x, loc = np.array([1000.3000001]), np.array([999.8])
    assert less_location(x, loc, "float32", in_place=True) == np.float32(x - loc)
    assert less_location(x, loc, "float32", in_place=True) != np.float32(x) - np.float32(loc)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scalar", [0.3, 3, np.float64(0.3), np.array(0.3)])
def test_a_single_number_takes_the_dtype_of_the_bottleneck(dtype: str, scalar: Any) -> None:
    x = np.linspace(-3, 3, 7).astype(dtype_of(dtype))
    expected = x - np.array(scalar).astype(x.dtype)
    assert less_location(x, location_array(scalar), dtype, in_place=True).tobytes() == expected.tobytes()


def test_either_is_broadcast_to_the_other() -> None:
    wide, narrow = np.ones((2, 1, 3), np.float32), np.ones((4, 1), np.float32)
    assert less_location(wide, narrow, "float32", in_place=True).shape == (2, 4, 3)
    assert less_location(narrow, wide, "float32", in_place=True).shape == (2, 4, 3)
    with pytest.raises(InvalidTensorError, match=r"loc has shape \(4,\); .* broadcasts with \(2, 3\)"):
        less_location(np.ones((2, 3), np.float32), np.ones(4), "float32", in_place=True)


@pytest.mark.parametrize(
    ("loc", "message"),
    [
        ([[1.0], [np.nan]], r"loc\[1, 0\] is NaN"),
        ([1.0, np.inf], r"loc\[1\] is inf"),
        (np.array([1j]), "has dtype complex128"),
        (["1"], "is a str"),
        (np.array([True]), "has dtype bool"),
    ],
)
def test_a_location_of_another_form_is_refused_by_name(loc: Any, message: str) -> None:
    with pytest.raises(InvalidTensorError, match=message):
        location_array(loc)


def test_what_overflows_is_infinite_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        big = np.array([65504.0], np.float16)
        assert less_location(big, -big, "float16", in_place=True) == np.inf
        assert plus_location(big, big) == np.inf


@given(
    st.sampled_from(FLOATS),
    st.sampled_from([(), (1,), (3,), (4, 3), (4, 1), (2, 4, 3), (2, 1, 1), (1, 1, 3)]),
)
def test_a_gradient_is_summed_over_what_was_broadcast(dtype: str, shape: tuple[int, ...]) -> None:
    gradient = np.arange(24).reshape(2, 4, 3).astype(dtype_of(dtype))
    summed = summed_to(gradient, shape)
    assert (summed.shape, summed.dtype) == (shape, gradient.dtype)
    # By the definition: the derivative of sum(gradient * broadcast(x)) by each element of x.
    for place in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[place] = 1
        expected = (gradient.astype(np.float64) * unit).sum()
        assert summed[place] == np.asarray(expected).astype(gradient.dtype)
