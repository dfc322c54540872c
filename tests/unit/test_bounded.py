"""Laws of error bounds: what floating point does to the arithmetic never breaks the promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidRequestError, InvalidTensorError
from entropyd.bounded import METADATA_NAME, ErrorBound

BOTTLENECKS = ["float16", "float32", "float64"]
DTYPES = ["float16", "float32", "float64"]


def universally_quantized(bottleneck: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """What a model restores of a bottleneck, whatever its tables: round(x - offset) + offset."""
    compute: Any = np.float64 if bottleneck.dtype == np.float64 else np.float32
    levels = rng.integers(0, 15, bottleneck.shape)
    offset: Any = ((levels + 1) / 16 - 0.5).astype(compute)
    restored: npt.NDArray[Any] = np.rint(bottleneck.astype(compute) - offset) + offset
    return restored.astype(bottleneck.dtype)


@given(
    st.sampled_from(DTYPES),
    st.sampled_from(BOTTLENECKS),
    st.floats(-12, 3),
    st.floats(-6, 4),
    st.integers(0, 2**32 - 1),
)
def test_every_element_keeps_within_the_bound_or_the_bound_is_refused(
    dtype: str, bottleneck_dtype: str, error_exponent: float, exponent: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    max_error = 10**error_exponent
    data = (rng.uniform(-1, 1, 300) * 10**exponent).astype(dtype)
    try:
        bound = ErrorBound.holding(max_error, data, bottleneck_dtype)
    except InvalidTensorError:
        return  # the test below looks at what is refused
    restored = bound.data(universally_quantized(bound.bottleneck(data, bottleneck_dtype), rng))
    bound.check(data, restored)
    assert restored.dtype == data.dtype
    assert np.abs(data.astype(np.float64) - restored.astype(np.float64)).max() <= max_error


@given(st.sampled_from(DTYPES), st.sampled_from(BOTTLENECKS), st.floats(0.01, 1000))
def test_a_bound_that_a_refusal_names_is_accepted(dtype: str, bottleneck_dtype: str, largest: float) -> None:
    data = np.array([largest], dtype)
    with pytest.raises(InvalidTensorError) as caught:
        ErrorBound.holding(1e-30, data, bottleneck_dtype)
    least = float(str(caught.value).split("at least ")[1].split()[0])
    ErrorBound.holding(1.1 * least, data, bottleneck_dtype)  # it is named with two digits


def test_the_step_is_all_but_twice_the_bound_where_precision_is_ample() -> None:
    bound = ErrorBound.holding(0.5, np.array([255.0], np.float32), "float32")
    assert 0.999 < bound.step <= 1.0


def test_a_bound_travels_in_metadata() -> None:
    bound = ErrorBound.holding(0.1, np.zeros(3, np.float32), "float32")
    assert ErrorBound.of({"a": 1, **bound.metadata}) == bound
    assert ErrorBound.of({"a": 1}) is None


@pytest.mark.parametrize(
    "found",
    [1, {}, {"max_error": 1, "step": 0, "dtype": "float32"}, {"max_error": 1, "step": 1, "dtype": "int8"}],
)
def test_metadata_that_make_no_sense_are_refused(found: Any) -> None:
    with pytest.raises(InvalidRequestError, match=METADATA_NAME):
        ErrorBound.of({METADATA_NAME: found})


@pytest.mark.parametrize("max_error", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_is_a_number_above_0(max_error: float) -> None:
    with pytest.raises(InvalidTensorError, match="max_error"):
        ErrorBound.holding(max_error, np.zeros(3, np.float32), "float32")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_data_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InvalidTensorError, match="NaN or infinities"):
        ErrorBound.holding(1.0, np.array([0.0, value], np.float32), "float32")


def test_data_that_are_no_floats_are_refused() -> None:
    with pytest.raises(InvalidTensorError, match="dtype uint8"):
        ErrorBound.holding(1.0, np.zeros(3, np.uint8), "float32")


def test_an_error_beyond_the_bound_is_found_and_placed() -> None:
    bound = ErrorBound(0.5, 1.0, "float32")
    with pytest.raises(InvalidTensorError, match=r"element \(1, 0\) would be restored with an error of 0.75"):
        bound.check(np.zeros((2, 1), np.float32), np.array([[0.5], [0.75]], np.float32))
