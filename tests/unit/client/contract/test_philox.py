"""Laws of the generator behind the dither; the numbers were drawn from TensorFlow 2.14.1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.philox import philox_4x32, stateless_uniform_int32
from tests.support.philox_draws import DRAWS, SEED


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_cipher_gives_the_known_answers_of_its_authors(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    words = philox_4x32(key, np.array(counter, np.uint64)[:, None])
    assert tuple(int(word) for word in words[:, 0]) == expected


@pytest.mark.parametrize(("upper", "skipped", "expected"), DRAWS)
def test_draws_are_those_of_tensorflow(upper: int, skipped: int, expected: list[int]) -> None:
    drawn = stateless_uniform_int32(skipped + len(expected), SEED, upper)
    assert drawn.dtype == np.int32
    assert drawn[skipped:].tolist() == expected


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 2**31 - 1))
def test_an_element_does_not_depend_on_how_many_are_drawn(count: int, more: int, upper: int) -> None:
    long = stateless_uniform_int32(count + more, SEED, upper)
    assert stateless_uniform_int32(count, SEED, upper).tolist() == long[:count].tolist()
    assert ((long >= 0) & (long < upper)).all()


@given(
    st.integers(0, 5000) | st.integers(2**34 - 9, 2**34 + 9), st.integers(0, 3000), st.integers(1, 2**31 - 1)
)
def test_elements_from_any_one_on_are_those_of_the_cipher(first: int, count: int, upper: int) -> None:
    drawn = stateless_uniform_int32(count, SEED, upper, first=first)
    scramble = np.array([[SEED[0]], [0], [SEED[1]], [0]], np.uint64)
    seed = philox_4x32((0x3EC8F720, 0x02461E29), scramble)[:, 0].tolist()
    blocks = range(first // 4, (first + count) // 4 + 1)
    counter = np.array([[b % 2**32, b >> 32, seed[2], seed[3]] for b in blocks], np.uint64).T
    words = philox_4x32((seed[0], seed[1]), counter).T.reshape(-1)[first % 4 :][:count]
    assert drawn.tolist() == [word % upper for word in words.tolist()]
