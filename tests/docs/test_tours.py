"""The tours of pages, each run in one shell as it is written, print what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.local import LocalServer
from tests.support.load import free_ports
from tests.support.machine import program
from tests.support.pages import blocks, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

END = "end of the output"


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Commands of a page, each with what it prints."""
    for block in blocks(page, "console tour"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


def check_tour(page: str, folder: Path, **environment: str) -> None:
    """Runs the tour of a page."""
    listed = [
        (command.replace("localhost:7070", environment["ADDRESS"]), out) for command, out in steps(page)
    ]
    # One shell for all of it, because later commands use the variables of earlier ones.
    script = "\n".join(f"{command}\necho '{END}'" for command, _ in listed)
    ran = subprocess.run(
        ["/bin/bash", "-c", f"exec 2>&1\ntrap 'kill $(jobs -p) 2> {os.devnull}; wait' EXIT\n{script}"],
        cwd=folder,
        env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )
    printed = ran.stdout.split(f"{END}\n")
    assert len(printed) == len(listed) + 1
    for (command, expected), found in zip(listed, printed, strict=False):
        assert re.fullmatch(pattern(expected), found), f"$ {command}\n{found}\nexpected:\n{expected}"


def test_the_tour_of_cli_md_does_what_it_says(tmp_path: Path) -> None:
    assert len(list(steps("cli.md"))) > 20
    of_this_user = {"ENTROPYD_STORE": str(tmp_path / "of-this-user")}
    with LocalServer() as server:
        check_tour("cli.md", tmp_path, ADDRESS=server.target, ENTROPYD_SERVER=server.target, **of_this_user)


def test_the_first_commands_of_cli_md_need_no_server(tmp_path: Path) -> None:
    (commands,) = blocks("cli.md", "sh")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "ENTROPYD_STORE": str(tmp_path / "models")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert np.array_equal(np.load(tmp_path / "restored.npy"), np.load(tmp_path / "x.npy"))


def test_the_tutorial_team_md_does_what_it_says(tmp_path: Path) -> None:
    program("openssl", "openssl")
    address = f"localhost:{free_ports(1)[0]}"
    # Without TensorFlow, which the page does not need, and without a port that every server would take.
    environment = {"ENTROPYD_ROLE": "coding,registry", "ENTROPYD_METRICS_LISTEN": "127.0.0.1:0"}
    environment["ENTROPYD_DRAIN_SECONDS"] = "0"
    check_tour("tutorials/team.md", tmp_path, ADDRESS=address, **environment)
