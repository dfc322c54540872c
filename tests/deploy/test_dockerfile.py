"""The Dockerfile, as far as it can be judged by reading it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import REPOSITORY, environment, instructions, last, stages
from tests.deploy.flags import flags

TARGETS = ("coding", "server", "server-gpu")


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [hadolint, "Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_an_unprivileged_number(target: str) -> None:
    """Kubernetes can tell that a user is not root only from a number."""
    user, _, group = last(target, "USER").partition(":")
    assert int(user) >= 10000
    assert int(group) >= 10000


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_sets_what_the_server_knows(target: str) -> None:
    known = set(flags())
    found = {name for name in environment(target) if name.startswith("ENTROPYD_")}
    assert found
    assert found <= known


def test_images_that_start_from_different_bases_are_set_up_alike() -> None:
    def setup(target: str) -> list[tuple[str, str]]:
        kinds = {"ENV", "EXPOSE", "STOPSIGNAL", "USER", "ENTRYPOINT"}
        return [(keyword, rest) for keyword, rest in instructions(target) if keyword in kinds]

    assert setup("server") == setup("server-gpu")


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_are_compiled_for_the_processor_that_they_are_started_on(target: str) -> None:
    """Numba finds compiled kernels only under the name and the features that they were compiled for."""
    numba = {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"}
    started = {name: environment(target)[name] for name in numba}
    compiled = {name: environment("build")[name] for name in numba}
    assert started == compiled == {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}


def test_base_images_have_a_version() -> None:
    bases = {stage.base for stage in stages().values()} - set(stages())
    assert bases == {"python:3.11-slim-bookworm", "tensorflow/tensorflow:2.14.0-gpu"}


def test_everything_that_is_copied_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        source
        for name in stages()
        for keyword, rest in instructions(name)
        if keyword == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    }
    assert copied
    assert all(any(source == path or source.startswith(f"{path}/") for path in sent) for source in copied)
