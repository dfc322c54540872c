"""The short form of `tests.fuzz.hostile`: a few thousand inputs of each kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.hostile import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_hostile_inputs_get_an_answer_and_the_right_one(name: str) -> None:
    for seed in range(10_000, 10_100):
        CHECKS[name](seed)


def test_kernels_stay_inside_their_arrays() -> None:
    # Compiled kernels check no bounds; as Python, an index out of bounds raises.
    warnings = ["-W", "error", "-W", "ignore:invalid value encountered"]  # those of a NaN
    subprocess.run(
        [sys.executable, *warnings, "-m", "tests.fuzz.hostile", "--inputs", "700"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=Path(__file__).parent.parent.parent,
        check=True,
    )
