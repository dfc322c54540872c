"""The Dockerfile as data, and its build stages run without a container engine.

Invariant: commands run as the file has them; only folders that a build makes lie under another root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

REPOSITORY = Path(__file__).resolve().parents[2]
_FOLDERS = re.compile(r"(?<![\w.-])/(?=(?:src|dist|opt/entropyd|var/lib/entropyd|tmp)\b)")


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile.

    Attributes:
      base: The stage, or the image, that it starts from.
      instructions: Its instructions in order, each a keyword and what follows, build arguments filled in.
    """

    base: str
    instructions: tuple[tuple[str, str], ...]


def stages() -> dict[str, Stage]:
    """The stages by name, in order."""
    text = re.sub(r"^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    name = ""
    for line in text.replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "ARG":
            argument, _, default = rest.partition("=")
            arguments[argument] = default
        elif keyword == "FROM":
            base, _, name = Template(rest).substitute(arguments).partition(" AS ")
            found[name] = Stage(base, ())
        elif keyword:
            filled = Template(rest.strip()).safe_substitute(arguments)
            found[name] = Stage(found[name].base, (*found[name].instructions, (keyword, filled)))
    return found


def instructions(target: str) -> list[tuple[str, str]]:
    """All instructions of a target, those of the stages that it starts from first."""
    listed = stages()
    if target not in listed:
        return []
    return [*instructions(listed[target].base), *listed[target].instructions]


def environment(target: str) -> dict[str, str]:
    """What a target's ENV instructions set."""
    pairs = [pair for keyword, rest in instructions(target) if keyword == "ENV" for pair in rest.split()]
    return {name: value.strip('"') for name, _, value in (pair.partition("=") for pair in pairs)}


def last(target: str, keyword: str) -> str:
    """What follows the last instruction of a kind."""
    return next(rest for found, rest in reversed(instructions(target)) if found == keyword)


class Root:
    """A folder that stands for the root of images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, text: str) -> str:
        """Text with an image's folders moved under this root."""
        return _FOLDERS.sub(f"{self.folder}/", text)

    def build(self, target: str) -> None:
        """Runs COPY and RUN of a stage and of those that it starts from.

        Raises:
          CalledProcessError: If a command fails.
        """
        here = self.folder
        variables = {name: self.path(value) for name, value in environment(target).items()}
        # The tree under test is the one that was copied, not the one that is installed.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # Downloads may be kept on this machine.
        variables.pop("PIP_NO_CACHE_DIR", None)
        for keyword, rest in instructions(target):
            if keyword == "WORKDIR":
                here = Path(self.path(rest))
                here.mkdir(exist_ok=True)
            elif keyword == "COPY" and not rest.startswith("--from="):
                *sources, destination = rest.split()
                for source in sources:
                    _copy(REPOSITORY / source, here / destination, into=destination.endswith("/"))
            elif keyword == "RUN":
                subprocess.run(
                    ["/bin/sh", "-c", self.path(rest)],
                    cwd=here,
                    env={**inherited, **variables},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=True,
                )

    def start(self, target: str) -> tuple[list[str], dict[str, str]]:
        """The command that a container of the target runs, and its environment."""
        command = [self.path(word) for word in json.loads(last(target, "ENTRYPOINT"))]
        variables = {name: self.path(value) for name, value in environment(target).items()}
        return command, {**variables, "PATH": self.path("/opt/entropyd/bin:/usr/local/bin:/usr/bin:/bin")}


def _copy(source: Path, destination: Path, *, into: bool) -> None:
    if into:
        destination /= source.name
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, destination)
