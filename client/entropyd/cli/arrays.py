"""Arrays in `.npy` and `.npz` files, and in pipes.

Invariant: a file that holds anything besides its array, or changes while it is read, is an error. Files are
read, not mapped: with a mapping, a file that shrinks ends the process.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy.typing as npt

from entropyd.cli.npy import NpyFile, read_stream
from entropyd.cli.paths import STREAM, open_source


@contextmanager
def open_array(path: Path) -> Iterator[npt.NDArray[Any] | NpyFile]:
    """The array of a `.npy` file, of which slices are read; or that of a stream, in memory.

    The end of the `with` statement checks that the file has not changed.
    """
    with open_source(path) as file:
        if _is_regular(file, path):
            with _unchanged(file, path):
                yield NpyFile(file, str(path))
        else:
            yield read_stream(file, str(path))


def read_array(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy` file or stream, in memory; errors as open_array."""
    with open_array(path) as array:
        return array[...]


def member_names(path: Path) -> list[str]:
    """Names of the arrays of a `.npz` file."""
    with _opened_archive(path) as members:
        names = [name.removesuffix(".npy") for name in members.namelist() if not name.endswith("/")]
    for name, count in Counter(names).items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise click.ClickException(f"{path} has an array named {name!r}, which cannot name a file")
        if count > 1:
            raise click.ClickException(f"{path} has {count} arrays named {name}; expected one")
    return names


@contextmanager
def open_member(path: Path, name: str) -> Iterator[npt.NDArray[Any]]:
    """One array of a `.npz` file, in memory; the end of the `with` statement checks as in open_array."""
    what = f"array {name} of {path}"
    with _opened_archive(path) as members:
        if f"{name}.npy" not in members.namelist():
            raise click.ClickException(f"{name} of {path} is not an array: its name does not end in .npy")
        try:
            with members.open(f"{name}.npy") as member:
                array = read_stream(member, what)
        # RuntimeError: encrypted; NotImplementedError, a RuntimeError: unknown compression.
        except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise click.ClickException(f"{what} cannot be read: {error}") from error
        yield array


@contextmanager
def _opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with open_source(path) as file, _unchanged(file, path):
        try:
            members = zipfile.ZipFile(file)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise click.ClickException(f"{path} is not a .npz file: {error}") from error
        with members:
            yield members


@contextmanager
def _unchanged(file: BinaryIO, path: Path) -> Iterator[None]:
    before = os.fstat(file.fileno())
    yield
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        sizes = f"{before.st_size:,} bytes before, {after.st_size:,} now"
        raise click.ClickException(f"{path} changed while it was read: {sizes}")


def _is_regular(file: BinaryIO, path: Path) -> bool:
    try:
        # Standard input may be a file at any position, and is read from there.
        return path != STREAM and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return False
