"""Archives on the command line: files, pipes, standard input, and folders."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from entropyd import Archive, Bundle
from entropyd.archive import VerifiedUnits
from entropyd.archive.file_header import names_of
from entropyd.archive.source import FileSource
from entropyd.archive.structure import is_bundle
from entropyd.cli.paths import STANDARD_INPUT, STREAM, standard_input


@contextmanager
def archive_source(path: Path) -> Iterator[FileSource]:
    """The bytes of an archive; those of a pipe or standard input are copied to a temporary file."""
    with nullcontext(standard_input()) if path == STREAM else path.open("rb") as file:
        if path != STREAM and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield FileSource(file, str(path))
            return
        with tempfile.TemporaryFile() as copied:
            shutil.copyfileobj(file, copied)
            copied.flush()
            yield FileSource(copied, STANDARD_INPUT if path == STREAM else str(path))


@contextmanager
def opened_file(path: Path, *, recover: bool) -> Iterator[Archive | Bundle]:
    with archive_source(path) as source:
        kind = Bundle if is_bundle(source) else Archive
        with kind.of_source(source, recover=recover) as opened:
            yield opened


@contextmanager
def opened_archive(path: Path, part: str | None, *, recover: bool) -> Iterator[Archive]:
    """An archive, which has no parts, or a part of a bundle."""
    with opened_file(path, recover=recover) as opened:
        if isinstance(opened, Archive):
            if part is not None:
                raise click.ClickException(f"{opened.name} is no bundle; it has no part {part}")
            yield opened
        elif part is None:
            found = f"{opened.name} is a bundle of {names_of(opened)}"
            raise click.ClickException(f"{found}; --part NAME says which one")
        elif part not in opened:
            raise click.ClickException(
                f"{opened.name} has no part {part}; it is a bundle of {names_of(opened)}"
            )
        else:
            yield opened[part]


def files_under(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[Path], list[OSError]]:
    """The regular files under a folder with one of the suffixes, sorted; and an error for all others.

    Others are broken links, devices and pipes with such a suffix, and folders that cannot be listed or are
    links.
    """
    errors: list[OSError] = []
    found = []
    for inner, folders, names in os.walk(folder, onerror=errors.append):
        errors += [
            OSError(errno.ELOOP, "is a link to a folder, which is not followed", str(path))
            for path in (Path(inner, name) for name in folders)
            if path.is_symlink()
        ]
        for path in (Path(inner, name) for name in names if name.endswith(suffixes)):
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    found.append(path)
                else:
                    errors.append(OSError(errno.EINVAL, "is not a regular file", str(path)))
            except OSError as error:
                errors.append(error)
    return sorted(found), sorted(errors, key=lambda error: str(error.filename))


def missing(found: Archive | VerifiedUnits) -> str:
    """Says what is missing in an archive that is not complete."""
    if found.missing_units:
        return f"at least {found.missing_units:,} more are missing"
    return "the file does not say whether more are missing"
