"""The files of a folder that a command converts, and where each result goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from entropyd import EntropydError
from entropyd.cli.paths import STREAM
from entropyd.cli.session import os_sentence, sentence
from entropyd.cli.sources import files_under


@dataclass(frozen=True)
class Job:
    """One file, and the file that is made of it."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of a file.

    Attributes:
      status: `done`, `skipped` or `failed`.
      source: The file.
      target: The file that is made of it.
      text: Sizes, or the error.
      details: The sizes, for JSON.
    """

    status: str
    source: str
    target: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


def compress_jobs(source: Path, target: Path, *, recursive: bool) -> tuple[list[Job], list[Outcome]]:
    """The jobs of the `.npy` and `.npz` files under a folder, or of one `.npz` file.

    Returns:
      The jobs, and an outcome for each file under the folder that cannot be one.

    Raises:
      click.ClickException: If `source` is not a folder, or `target` is something else than a folder.
    """
    _check_folder(target)
    if not recursive:
        return [Job(source, target)], []
    files, failed = _files(source, target, ".npy", ".npz")
    return [
        Job(path, (target / path.relative_to(source)).with_suffix(_suffix_of_archive(path))) for path in files
    ], failed


def decompress_jobs(source: Path, target: Path) -> tuple[list[Job], list[Outcome]]:
    """The jobs of the archives under a folder; results and errors as of compress_jobs."""
    _check_folder(target)
    files, failed = _files(source, target, ".entropyd")
    return [Job(path, (target / path.relative_to(source)).with_suffix(".npy")) for path in files], failed


def _check_folder(target: Path) -> None:
    if target == STREAM or (target.exists() and not target.is_dir()):
        raise click.ClickException(f"{target} is not a folder; several files need one")


def _files(folder: Path, target: Path, *suffixes: str) -> tuple[list[Path], list[Outcome]]:
    if not folder.is_dir():
        raise click.ClickException(f"{folder} is not a folder; --recursive needs one")
    files, errors = files_under(folder, suffixes)
    if not files and not errors:
        raise click.ClickException(f"{folder} holds no {' or '.join(suffixes)} files")
    return files, [_failed(error, target / Path(error.filename).relative_to(folder)) for error in errors]


def _failed(error: OSError, target: Path) -> Outcome:
    return Outcome("failed", error.filename, str(target), reason(error))


def _suffix_of_archive(path: Path) -> str:
    return "" if path.suffix == ".npz" else ".entropyd"


def reason(error: Exception) -> str:
    """The text of an error of one file."""
    if isinstance(error, EntropydError):
        return sentence(error)
    if isinstance(error, OSError):
        return os_sentence(error)
    return error.message if isinstance(error, click.ClickException) else str(error)
