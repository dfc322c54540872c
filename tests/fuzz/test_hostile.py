"""The short form of `tests.fuzz.hostile`: a few thousand inputs of each kind."""

from __future__ import annotations

import pytest

from tests.fuzz.hostile import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_hostile_inputs_get_an_answer_and_the_right_one(name: str) -> None:
    for seed in range(10_000, 10_100):
        CHECKS[name](seed)
