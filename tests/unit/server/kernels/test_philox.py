"""Laws of the kernel behind the dither: it draws what TensorFlow and the contract draw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.philox import scrambled, stateless_uniform_int32
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.philox import fill_uniform
from tests.support.philox_draws import DRAWS, SEED


def draw(count: int, upper: int, first: int = 0) -> npt.NDArray[np.int32]:
    drawn = np.empty(count, np.int32)
    fill_uniform(kernel_input(scrambled(SEED)), first, upper, drawn)
    return drawn


@pytest.mark.parametrize(("upper", "skipped", "expected"), DRAWS)
def test_draws_are_those_of_tensorflow(upper: int, skipped: int, expected: list[int]) -> None:
    assert draw(skipped + len(expected), upper)[skipped:].tolist() == expected


@given(
    st.integers(0, 5000) | st.integers(2**34 - 9, 2**34 + 9), st.integers(0, 3000), st.integers(1, 2**31 - 1)
)
def test_elements_from_any_one_on_are_those_of_the_contract(first: int, count: int, upper: int) -> None:
    expected = stateless_uniform_int32(count, SEED, upper, first=first)
    assert draw(count, upper, first).tolist() == expected.tolist()
