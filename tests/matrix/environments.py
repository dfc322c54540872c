"""Makes environments that hold the built wheel, one for each Python version of the machine.

Nothing is installed from the checkout itself: a module that the wheel lacks is missing in the environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
# What each version can run, as extras of the wheel.
EXTRAS = {"3.10": "coding", "3.11": "server", "3.12": "server", "3.13": "server"}
OLDEST_GRPCIO = re.findall(r'"grpcio>=([\d.]+),<', (REPOSITORY / "pyproject.toml").read_text())[0]


def interpreter(version: str) -> Path | None:
    """A Python of that version which runs; a version manager's shim on the PATH may not."""
    name = f"python{version}"
    candidates = [
        *(Path(found) for found in [shutil.which(name)] if found),
        *Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"),
    ]
    for candidate in candidates:
        ran = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if ran.stdout.startswith(f"Python {version}."):
            return candidate
    return None


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this checkout into an empty folder."""
    _uv("build", "--wheel", "--out-dir", str(folder), str(REPOSITORY))
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment.

    Args:
      folder: Where to make it; it must not exist.
      interpreter: Its Python.

    Attributes:
      python: The Python inside.
    """

    def __init__(self, folder: Path, interpreter: Path) -> None:
        self.python = folder / "bin" / "python"
        _uv("venv", "--python", str(interpreter), str(folder))

    def install(self, *requirements: str) -> None:
        """Installs the newest releases that the requirements allow."""
        _uv("pip", "install", "--python", str(self.python), *requirements)

    def run(
        self, *arguments: str, before: Sequence[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the Python inside in the repository's root, behind `before`; the output is captured."""
        return subprocess.run(
            [*before, self.python, *arguments],
            cwd=REPOSITORY,
            env=_outside() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def test(self, suites: Sequence[str], *options: str, **environment: str) -> tuple[bool, str]:
        """Runs suites with pytest: whether all passed, and the output."""
        ran = self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *suites, **environment)
        return ran.returncode == 0, ran.stdout


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], check=True)


def _outside() -> dict[str, str]:
    """This process's environment variables without those that belong to its own Python.

    Python may write bytecode there: TensorFlow would be compiled anew in each worker process.
    """
    own = {"PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "NUMBA_CACHE_DIR"}
    return {name: value for name, value in os.environ.items() if name not in own and "PYTEST" not in name}
