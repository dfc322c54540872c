"""Laws of symbols in the client: they are the naive arithmetic, and come back as the values that decode."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entropyd.contract.dtypes import element_dtype
from entropyd.contract.symbols import SYMBOL_DTYPES, Quantizer, narrowest

Array = npt.NDArray[Any]

KINDS: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


@st.composite
def arrays(draw: st.DrawFn, kind: Any) -> Array:
    """[units, symbols] of numbers near and far."""
    shape = draw(st.integers(0, 4)), draw(st.integers(0, 9))
    size = shape[0] * shape[1]
    numbers = st.integers(-36, 36).map(lambda number: number / 8) | st.floats(-1e5, 1e5)
    values = draw(st.lists(numbers, min_size=size, max_size=size))
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(kind).reshape(shape)


def offsets_of(draw: Any, shape: tuple[int, ...], kind: Any) -> Array:
    size = int(np.prod(shape))
    levels = draw(st.lists(st.integers(-7, 7), min_size=size, max_size=size))
    return (np.array(levels, np.float64) / 16).astype(kind).reshape(shape)


@pytest.mark.parametrize("rounds", [False, True], ids=["dither", "offset of each row"])
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("dtype", KINDS)
@given(data=st.data())
def test_symbols_and_values_are_the_naive_arithmetic(
    dtype: str, own: bool, rounds: bool, data: st.DataObject
) -> None:
    kind = KINDS[dtype]
    wide = np.float64 if dtype == "float64" else np.float32
    values = data.draw(arrays(kind))
    values[~np.isfinite(values.astype(wide))] = 0
    computed = kind if rounds else wide
    offsets = offsets_of(data.draw, values.shape if own else values.shape[1:], computed)
    quantizer = Quantizer(dtype, offsets.astype(wide), rounds_offsets=rounds and kind != wide)
    # Operations of 16 bits round to the dtype, as those of NumPy and ml_dtypes do.
    expected = np.rint((values.astype(computed) - offsets).astype(wide))
    symbols = quantizer.symbols(values.view(element_dtype(dtype)))
    assert symbols is not None
    assert symbols.tolist() == expected.astype(np.int64).tolist()
    assert symbols.dtype == narrowest(expected.astype(np.int32)).dtype
    with np.errstate(over="ignore"):
        restored = (expected.astype(wide).astype(computed) + offsets).astype(kind)
    assert quantizer.values(symbols).tobytes() == restored.view(element_dtype(dtype)).tobytes()


@pytest.mark.parametrize("dtype", KINDS)
def test_blocks_are_seamless(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 200_000), (3, 70_000), (90, 1000)):
        values = (30 * rng.standard_normal(shape)).astype(KINDS[dtype])
        quantizer = Quantizer(dtype)
        symbols = quantizer.symbols(values.view(element_dtype(dtype)))
        assert symbols is not None
        np.testing.assert_array_equal(symbols, np.rint(values.astype(np.float64)))
        restored = quantizer.values(symbols).view(KINDS[dtype])
        np.testing.assert_array_equal(restored, symbols.astype(np.float64).astype(KINDS[dtype]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**31, -(2.0**31), 1e300])
@pytest.mark.parametrize("place", [0, 70_000, 139_999])
def test_what_int32_does_not_hold_has_no_symbols(value: float, place: int) -> None:
    values = np.zeros((2, 70_000))
    values.reshape(-1)[place] = value
    assert Quantizer("float64").symbols(values) is None


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-200, 200)))
@example([-128, 127])
@example([128])
@example([-129])
@example([32767, -32768])
@example([32768])
def test_the_narrowest_type_holds_all_and_no_narrower_one_does(integers: list[int]) -> None:
    narrow = narrowest(np.array(integers, np.int32))
    assert narrow.tolist() == integers
    for name in SYMBOL_DTYPES[: SYMBOL_DTYPES.index(narrow.dtype.name)]:
        info = np.iinfo(name)
        assert min(integers) < info.min or max(integers) > info.max


def test_a_late_block_widens_what_came_before() -> None:
    values = np.zeros((1, 200_000), np.float32)
    values[0, 5], values[0, 70_000], values[0, 199_999] = -7, 300, -(2.0**20)
    symbols = Quantizer("float32").symbols(values)
    assert symbols is not None
    assert symbols.dtype == np.int32
    np.testing.assert_array_equal(symbols, values)
