"""The exact quotient that finds a symbol, compiled and as Python, against unbounded integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.kernels.decoder_steps import quotient
from entropyd_server.kernels.intrinsics import long_quotient
from entropyd_server.kernels.jit import kernel
from entropyd_server.kernels.range_coder import FULL_SIZE, WORD_SIZE


@kernel
def _compiled_quotient(ahead: int, size: int, precision: int) -> int:
    return quotient(ahead, size, precision)


@given(size=st.integers(WORD_SIZE, FULL_SIZE), precision=st.integers(1, 16), data=st.data())
def test_the_quotient_is_that_of_unbounded_integers(size: int, precision: int, data: st.DataObject) -> None:
    ahead = data.draw(st.integers(0, size - 1))
    high, low = ahead << precision, (1 << precision) - 1
    expected = (high + low) // size
    assert _compiled_quotient(ahead, size, precision) == expected < 1 << precision
    assert vars(long_quotient)["__wrapped__"](high, low, size) == expected
