"""Archives that the command line names: files, pipes under any name, standard input, and folders of them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from entropyd import Archive
from entropyd.archive.source import FileSource
from entropyd.cli.paths import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from entropyd.archive import Verification


@contextmanager
def archive_source(path: Path) -> Iterator[FileSource]:
    """The bytes of an archive. What is no regular file is kept in a temporary one meanwhile.

    Raises:
      OSError: If it cannot be read, or there is no room for a temporary file.
    """
    if path == STREAM:
        with _kept(sys.stdin.buffer, "standard input") as source:
            yield source
        return
    with path.open("rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield FileSource(file, str(path))
        else:
            with _kept(file, str(path)) as source:
                yield source


@contextmanager
def opened_archive(path: Path, *, recover: bool) -> Iterator[Archive]:
    """An archive, opened; errors as of archive_source and Archive.open."""
    with archive_source(path) as source, Archive.of_source(source, recover=recover) as archive:
        yield archive


def files_under(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[Path], list[OSError]]:
    """The regular files under a folder with one of the suffixes, sorted; and why others are not among them.

    Those are links to nothing, devices and pipes with such a name, and folders that cannot be listed or are
    links, which may lead anywhere.
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
                    errors.append(OSError(errno.EINVAL, "is no regular file", str(path)))
            except OSError as error:
                errors.append(error)
    return sorted(found), sorted(errors, key=lambda error: str(error.filename))


def missing(found: Archive | Verification) -> str:
    """What is missing in an archive that is not complete, in words."""
    if found.missing_units:
        return f"at least {found.missing_units:,} more are missing"
    return "whether more are missing, the file does not say"


@contextmanager
def _kept(stream: BinaryIO, name: str) -> Iterator[FileSource]:
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        yield FileSource(file, name)
