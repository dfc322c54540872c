"""What arguments of commands name: files, folders, and `-` for standard input and output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

STREAM = Path("-")


class _PathOrStream(click.Path):
    """A path; `-` becomes STREAM and `./-` does not, which pathlib takes for the same."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        return Path.cwd() / path if path == STREAM and os.fspath(value) != str(STREAM) else path


FILE = _PathOrStream(path_type=Path)
