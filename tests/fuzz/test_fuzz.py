"""The short form of fuzzing: what was found interesting, again, and a few hundred new inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SEEDS = {name: [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] for name in TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds_for_the_corpus(name: str) -> None:
    assert SEEDS[name]
    for data in SEEDS[name]:
        TARGETS[name](data)


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds_for_mutations_of_the_corpus_and_for_any_bytes(
    name: str, data: st.DataObject
) -> None:
    seed = bytearray(data.draw(st.sampled_from(SEEDS[name]) | st.binary(max_size=300)))
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(seed)))
        removed = data.draw(st.integers(0, 3))
        seed[position : position + removed] = data.draw(st.binary(max_size=4))
    TARGETS[name](bytes(seed))


@pytest.mark.parametrize("name", ["decode", "encode", "indexed"])
def test_kernels_stay_inside_their_arrays(name: str) -> None:
    # Compiled kernels check no bounds; as Python, an index out of bounds raises.
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.fuzz.run", name, "--replay"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=Path(__file__).parent.parent.parent,
        check=True,
    )
