"""The tour of docs/cli.md, run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
END = "end of the output"


def steps() -> Iterator[tuple[str, str]]:
    """Commands of the page, each with what it prints."""
    for block in re.findall(r"^```console tour\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


def pattern(printed: str) -> str:
    return re.escape(printed).replace(r"\.\.\.", "(?s:.*?)")


def test_the_tour_does_what_it_says(tmp_path: Path) -> None:
    listed = list(steps())
    assert len(listed) > 20
    # One shell for all of it, because later commands use the variables of earlier ones.
    script = "\n".join(f"{command}\necho '{END}'" for command, _ in listed)
    with LocalServer() as server:
        environment = {
            **os.environ,
            "ENTROPYD_SERVER": server.target,
            "ENTROPYD_STORE": str(tmp_path / "of-this-user"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        ran = subprocess.run(
            ["/bin/bash", "-c", f"exec 2>&1\n{script}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    printed = ran.stdout.split(f"{END}\n")
    assert len(printed) == len(listed) + 1
    for (command, expected), found in zip(listed, printed, strict=False):
        assert re.fullmatch(pattern(expected), found), f"$ {command}\n{found}\nexpected:\n{expected}"
