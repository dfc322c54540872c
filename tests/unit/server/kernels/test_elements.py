"""Laws of elements: whatever their type, the same integers are coded; what a type does not hold is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entropyd_server.kernels.elements import (
    ELEMENT_OF_DTYPE,
    blank,
    read_integers,
    write_elements,
)
from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.range_coder import Status

FLOATS = ("float32", "float64")
SYMBOLS = ("int8", "int16", "int32")
INT32 = 2**31


def read(values: npt.NDArray[Any], offsets: npt.NDArray[Any], first: int) -> tuple[bool, list[int]]:
    """Reads from `first` on, and sees that nothing before or behind it is written."""
    count = len(values) - first
    integers = np.full(count + 2, 7, np.int32)
    element = ELEMENT_OF_DTYPE[values.dtype]
    # At an odd address, as within a message.
    unaligned = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:]
    held = read_integers(
        kernel_input(unaligned), element, first, kernel_bytes(offsets), first, integers[1:-1]
    )
    assert integers[0] == integers[-1] == 7
    return bool(held), integers[1:-1].tolist()


def write(integers: list[int], dtype: str, offsets: npt.NDArray[Any]) -> tuple[int, npt.NDArray[Any]]:
    values = np.zeros(len(integers) + 2, dtype)
    elements = values.view(np.uint8)
    element = ELEMENT_OF_DTYPE[values.dtype]
    status = write_elements(np.array(integers, np.int32), elements, element, 1, kernel_bytes(offsets), 0)
    assert values[0] == values[-1] == 0
    return status, values[1:-1]


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.data(), st.integers(0, 3), st.booleans())
def test_floats_are_rounded_as_numpy_rounds_them(
    dtype: str, data: st.DataObject, first: int, far: bool
) -> None:
    if dtype == "float32":
        number = st.floats(-100, 100, width=32) | st.floats(width=32)
    else:
        number = st.floats(-100, 100) | st.floats()
    values = np.array(data.draw(st.lists(number, min_size=first, max_size=20)), dtype)
    levels = st.lists(st.integers(-7, 7), min_size=len(values), max_size=len(values))
    offsets = np.array(data.draw(levels) if far else [], dtype) / 16
    with np.errstate(invalid="ignore"):
        rounded = np.rint(values - offsets if far else values)[first:]
    fits = np.abs(rounded) < INT32
    held, integers = read(values, offsets, first)
    assert held == fits.all()
    assert integers == [int(value) if fit else 0 for value, fit in zip(rounded, fits, strict=True)]


@pytest.mark.parametrize("dtype", SYMBOLS)
@given(st.data(), st.integers(0, 3))
def test_symbols_are_read_as_they_are(dtype: str, data: st.DataObject, first: int) -> None:
    info = np.iinfo(dtype)
    values = data.draw(st.lists(st.integers(info.min, info.max), min_size=first, max_size=40))
    assert read(np.array(values, dtype), np.empty(0), first) == (True, values[first:])


@pytest.mark.parametrize("dtype", SYMBOLS)
@given(st.lists(st.integers(-200, 200) | st.integers(-INT32, INT32 - 1), max_size=20))
@example([-128, 127])
@example([-129])
@example([128])
@example([-32768, 32767])
@example([0, 32768])
def test_symbols_that_a_type_does_not_hold_are_said(dtype: str, integers: list[int]) -> None:
    info = np.iinfo(dtype)
    fits = all(info.min <= integer <= info.max for integer in integers)
    status, values = write(integers, dtype, np.empty(0))
    assert status == (Status.OK if fits else Status.TOO_WIDE)
    assert not fits or values.tolist() == integers


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.lists(st.integers(-INT32, INT32 - 1), max_size=20), st.integers(-7, 7), st.booleans())
def test_floats_are_restored_with_one_rounding_each(
    dtype: str, integers: list[int], level: int, far: bool
) -> None:
    offsets = np.full(len(integers) if far else 0, level, dtype) / 16
    status, values = write(integers, dtype, offsets)
    assert status == Status.OK
    converted = np.array(integers, np.int32).astype(dtype)
    np.testing.assert_array_equal(values, converted + offsets if far else converted)


@pytest.mark.parametrize("dtype", [*FLOATS, *SYMBOLS])
def test_only_the_elements_of_a_unit_that_failed_are_overwritten(dtype: str) -> None:
    values = np.full(9, 3, dtype)
    blank(values.view(np.uint8), ELEMENT_OF_DTYPE[values.dtype], 4, 3)
    assert values[:4].tolist() == [3] * 4
    assert values[7:].tolist() == [3] * 2
    assert np.isnan(values[4:7]).all() if dtype in FLOATS else not values[4:7].any()
