"""Laws of error bounds: whatever floating point does, every element keeps its bound, missing ones their bits,
and what was restored is restored to itself.
"""

from __future__ import annotations

import json
import math
import sys
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidRequestError, InvalidTensorError
from entropyd.bounded import (
    METADATA_NAME,
    ErrorBound,
    missing_from_json,
    missing_to_json,
    missing_values,
)
from entropyd.bounded.missing import missing_mask

BOTTLENECKS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = ["float16", "float32", "float64"]
FILLS = [0.0, -9999.0, 9.969209968386869e36, math.inf, -math.inf, 1.0]


def universally_quantized(bottleneck: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    """What a model restores of a bottleneck, whatever its tables: round(x - offset) + offset.

    The offsets are those of the positions, so that they are the same each time.
    """
    compute: Any = np.float64 if bottleneck.dtype == np.float64 else np.float32
    levels = np.random.default_rng(seed).integers(0, 15, bottleneck.shape)
    offset: Any = ((levels + 1) / 16 - 0.5).astype(compute)
    restored: npt.NDArray[Any] = np.rint(bottleneck.astype(compute) - offset) + offset
    return restored.astype(bottleneck.dtype)


def come_back(
    data: npt.NDArray[Any],
    max_error: float,
    bottleneck_dtype: str,
    missing: tuple[float, ...] = (),
    seed: int = 0,
) -> npt.NDArray[Any]:
    """What comes back of data that are compressed with a bound."""
    bound = ErrorBound.holding(max_error, data, bottleneck_dtype, missing)
    absent = missing_mask(data, missing)
    present = np.where(absent, np.zeros((), data.dtype), data)
    dtype = np.dtype(getattr(ml_dtypes, bottleneck_dtype, bottleneck_dtype))
    restored = bound.data(universally_quantized(bound.bottleneck(present, dtype), seed))
    return bound.exact(data, restored, bottleneck_dtype, missing).applied(restored)


@st.composite
def fields(draw: st.DrawFn) -> tuple[npt.NDArray[Any], float, str]:
    """Data of any magnitude, a bound that it can keep, most of the time barely, and a bottleneck_dtype."""
    dtype, bottleneck_dtype = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(BOTTLENECKS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest = 10 ** draw(st.floats(-6, 4))
    data = (rng.uniform(-1, 1, 300) * largest).astype(dtype)
    data[:150] *= rng.uniform(0, 1, 150).astype(dtype) ** 8
    with pytest.raises(InvalidTensorError) as caught:
        ErrorBound.holding(sys.float_info.min, data, bottleneck_dtype)
    least = float(str(caught.value).split("at least ")[1].split()[0])
    return data, least * 10 ** draw(st.floats(0.05, 6)), bottleneck_dtype


@given(fields(), st.integers(0, 2**32 - 1))
def test_every_element_keeps_within_the_bound(field: tuple[Any, float, str], seed: int) -> None:
    data, max_error, bottleneck_dtype = field
    restored = come_back(data, max_error, bottleneck_dtype, seed=seed)
    assert restored.dtype == data.dtype
    worst = np.abs(data.astype(np.float64) - restored.astype(np.float64)).argmax()
    assert abs(Fraction(float(data[worst])) - Fraction(float(restored[worst]))) <= Fraction(max_error)


@given(fields(), st.sets(st.sampled_from(FILLS)), st.integers(0, 2**32 - 1))
def test_compressing_what_was_restored_gives_it_again_bit_for_bit(
    field: tuple[Any, float, str], missing: set[float], seed: int
) -> None:
    data, max_error, bottleneck_dtype = field
    named = missing_values(missing)
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        fills = np.array([math.nan, *named, 0.0, max_error / 1000, -max_error / 1000], np.float64)
        fills = fills[np.isnan(fills) | np.isin(fills, named) | np.isfinite(fills)].astype(data.dtype)
    fills = fills[np.isfinite(fills) | missing_mask(fills, named)]
    data[::7] = rng.choice(fills, len(data[::7]))
    once = come_back(data, max_error, bottleneck_dtype, named, seed)
    again = come_back(once, max_error, bottleneck_dtype, named, seed)
    assert again.tobytes() == once.tobytes()
    absent = missing_mask(data, named)
    assert once[absent].tobytes() == data[absent].tobytes()
    assert (missing_mask(once, named) == absent).all()
    away = np.abs(data[~absent].astype(np.float64) - once[~absent].astype(np.float64))
    assert (away <= max_error).all()


@given(fields(), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_data_that_are_rewritten_in_parts_keep_the_bound_of_what_was_written_last(
    field: tuple[Any, float, str], seed: int, writes: int
) -> None:
    data, max_error, bottleneck_dtype = field
    rng = np.random.default_rng(seed)
    expected, stored = data.copy(), come_back(data, max_error, bottleneck_dtype, seed=seed)
    for _ in range(writes % 9):
        first, last = np.sort(rng.integers(0, len(data) + 1, 2))
        expected[first:last] = rng.permutation(data)[first:last]
        stored[first:last] = expected[first:last]
        stored = come_back(stored, max_error, bottleneck_dtype, seed=seed)
    away = np.abs(expected.astype(np.float64) - stored.astype(np.float64))
    assert (away <= max_error).all()


@given(
    st.sampled_from(DTYPES),
    st.sampled_from(BOTTLENECKS),
    st.floats(-12, 3),
    st.floats(-6, 4),
    st.integers(0, 2**32 - 1),
)
def test_what_may_be_compressed_may_be_compressed_again_once_it_was_restored(
    dtype: str, bottleneck_dtype: str, error_exponent: float, exponent: float, seed: int
) -> None:
    max_error = 10**error_exponent
    bound = ErrorBound(max_error, 2 * max_error, dtype)
    reach = min(bound.reach(bottleneck_dtype), float(np.finfo(dtype).max))
    if reach <= 0:
        return  # nothing may be
    data = (np.random.default_rng(seed).uniform(0.99, 1, 50) * reach).astype(dtype)
    data = data[np.abs(data.astype(np.float64)) <= reach]
    once = come_back(data, max_error, bottleneck_dtype, seed=seed)
    assert come_back(once, max_error, bottleneck_dtype, seed=seed).tobytes() == once.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", [0.0, -0.0, 0.25])
def test_no_element_that_is_not_missing_comes_back_as_a_missing_value(dtype: str, fill: float) -> None:
    data = (fill + np.linspace(-1e-3, 1e-3, 1001)).astype(dtype)
    missing = missing_values([fill])
    absent = missing_mask(data, missing)
    restored = come_back(data, 0.5, "float32", missing)
    assert (missing_mask(restored, missing) == absent).all()
    assert (np.abs(restored.astype(np.float64) - data.astype(np.float64)) <= 0.5).all()


def test_an_element_between_two_missing_values_comes_back_as_it_is() -> None:
    between = np.nextafter(np.float32(0), np.float32(1))
    data = np.full(50, np.nextafter(between, np.float32(1)))
    restored = come_back(data, 0.5, "float32", missing_values([0.0, between]))
    # 0 is on the grid of some positions.
    assert set(restored[np.abs(restored) < 1e-30]) == {data[0]}


def test_missing_values_come_back_with_every_bit() -> None:
    odd = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x7F800000, 0x461C3C00], np.uint32)
    data = odd.view(np.float32)
    with np.errstate(invalid="ignore"):
        restored = come_back(data, 0.1, "float32", missing_values([0.0, math.inf, 9999.0]))
    assert restored.tobytes() == data.tobytes()


def test_missing_values_do_not_count_for_the_magnitude() -> None:
    data = np.array([1.0, 1e30, math.nan, -1e30], np.float32)
    with pytest.raises(InvalidTensorError, match="values up to 1e"):
        ErrorBound.holding(0.1, data, "float32")
    ErrorBound.holding(0.1, data, "float32", missing_values([1e30, -1e30]))


@given(st.floats(1e-300, 1e300), st.lists(st.floats(-1, 1), max_size=5))
def test_the_step_follows_from_the_bound_alone(max_error: float, data: list[float]) -> None:
    small, large = np.array(data, np.float64) * max_error, np.array([max_error * 1000])
    bound = ErrorBound.holding(max_error, large, "float64")
    assert bound.step == ErrorBound.holding(max_error, small, "float64").step
    assert 1.99 * max_error < bound.step < 2 * max_error


def test_no_element_is_exact_while_the_margin_holds_the_rounding() -> None:
    data = np.random.default_rng(0).uniform(-13_000, 13_000, 100_000).astype(np.float32)
    bound = ErrorBound.holding(1.0, data, "float32")
    restored = bound.data(universally_quantized(bound.bottleneck(data, np.float32), 0))
    assert len(bound.exact(data, restored, "float32", ())) == 0


@pytest.mark.parametrize("max_error", [5e-324, 2.0**1022])
def test_the_step_of_the_least_and_the_largest_bound_is_a_number_that_archives_take(max_error: float) -> None:
    bound = ErrorBound.holding(max_error, np.zeros(0), "float64")
    assert ErrorBound.of(bound.metadata) == bound


@given(st.sampled_from(DTYPES), st.sampled_from(BOTTLENECKS), st.floats(0.01, 1000))
def test_a_bound_that_a_refusal_names_is_accepted(dtype: str, bottleneck_dtype: str, largest: float) -> None:
    data = np.array([largest], dtype)
    with pytest.raises(InvalidTensorError) as caught:
        ErrorBound.holding(1e-30, data, bottleneck_dtype)
    least = float(str(caught.value).split("at least ")[1].split()[0])
    ErrorBound.holding(1.1 * least, data, bottleneck_dtype)  # it is named with two digits


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


@pytest.mark.parametrize("max_error", [0.0, -1.0, math.inf, math.nan, 1e308, "0.1", True, None, 1j, [0.1]])
def test_a_bound_is_a_number_above_0(max_error: Any) -> None:
    with pytest.raises(InvalidTensorError, match="max_error"):
        ErrorBound.holding(max_error, np.zeros(3, np.float32), "float32")


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_are_refused_unless_they_are_named(value: float) -> None:
    data = np.array([0.0, value, math.nan], np.float32)
    with pytest.raises(InvalidTensorError, match="infinities"):
        ErrorBound.holding(1.0, data, "float32", missing_values([-value]))
    ErrorBound.holding(1.0, data, "float32", missing_values([value]))


def test_data_that_are_no_floats_are_refused() -> None:
    with pytest.raises(InvalidTensorError, match="dtype uint8"):
        ErrorBound.holding(1.0, np.zeros(3, np.uint8), "float32")


@pytest.mark.parametrize("restored", [0.75, -0.75, math.inf, math.nan])
def test_an_element_that_would_come_back_beyond_the_bound_comes_back_exactly(restored: float) -> None:
    bound = ErrorBound(0.5, 1.0, "float32")
    data = np.array([[0.0], [0.1]], np.float32)
    exact = bound.exact(data, np.array([[0.5], [restored]], np.float32), "float32", ())
    assert exact.positions.tolist() == [1]
    assert exact.values.tolist() == [np.float32(0.1)]


@pytest.mark.parametrize(
    "missing", [-9999.0, "-9999", ["1"], [True], [None], [1j], [[1.0]], None, object(), [10**400]]
)
def test_missing_values_are_a_sequence_of_numbers(missing: Any) -> None:
    with pytest.raises(InvalidTensorError, match="missing"):
        missing_values(missing)


@pytest.mark.parametrize(
    "missing",
    [[1, 2.0, 1], (np.float32(2), np.int16(1)), {1, 2}, np.array([2, 1], np.int8), [2, math.nan, 1]],
)
def test_missing_values_are_the_same_in_any_order_and_form(missing: Any) -> None:
    assert missing_values(missing) == (1.0, 2.0)


@given(st.lists(st.floats()))
def test_missing_values_make_the_round_trip_through_json(found: list[float]) -> None:
    missing = missing_values(found)
    text = json.dumps(missing_to_json(missing), allow_nan=False)
    assert missing_values(missing_from_json(json.loads(text))) == missing


def test_a_missing_value_is_one_in_the_dtype_of_the_data() -> None:
    data = np.array([0.1, 0.2, math.inf], np.float32)
    assert missing_mask(data, [0.1, 1e300]).tolist() == [True, False, False]
