"""Modes of new files and folders, which are at most as permissive as those of their sources."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Limit(NamedTuple):
    """Who may use a file: its mode and its group."""

    mode: int
    gid: int

    @classmethod
    def of(cls, found: os.stat_result) -> Limit:
        return cls(found.st_mode, found.st_gid)


def make_folders(folder: Path, like: Path) -> None:
    """Makes a folder and its missing parents.

    It is at most as permissive as `like`, a folder or a file that becomes one, and each of its parents as the
    parent of `like` at that level.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent, like.parent)
    found = like.stat()
    readable = 0 if stat.S_ISDIR(found.st_mode) else (found.st_mode & 0o444) >> 2
    limit = Limit(found.st_mode | readable, found.st_gid)
    folder.mkdir(_narrowed(0o777, [limit]))
    made = folder.stat()
    mode = made.st_mode & 0o777
    narrower = _narrowed(mode, [limit], made.st_gid)
    if narrower != mode:
        folder.chmod(made.st_mode & 0o7000 | narrower)


def create(path: Path, limits: Sequence[Limit]) -> int:
    """Opens a new file for writing, with the widest mode that umask and limits allow."""
    mode = _narrowed(0o666, limits)
    descriptor = _exclusively(path, mode)
    narrower = _narrowed(mode, limits, os.fstat(descriptor).st_gid)
    if narrower != mode:
        # Its group is another one. A file that others may have opened meanwhile stays empty.
        os.close(descriptor)
        path.unlink()
        descriptor = _exclusively(path, narrower)
    return descriptor


def create_like(path: Path, replaced: os.stat_result, limits: Sequence[Limit]) -> int:
    """Opens a new file for writing, with mode and owner of the one that it will replace, within limits."""
    descriptor = _exclusively(path, 0o600)
    with suppress(PermissionError):
        os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    limits = [Limit.of(replaced), *limits]
    group = os.fstat(descriptor).st_gid
    os.fchmod(descriptor, _narrowed(replaced.st_mode & 0o777, limits, group))
    return descriptor


def _exclusively(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)


def _narrowed(mode: int, limits: Sequence[Limit], gid: int | None = None) -> int:
    """A mode without the permissions that limits do not give; the owner keeps all.

    Where the file's group `gid` is not the limit's, the group gets the permissions of everybody.
    """
    for limit in limits:
        group, others = limit.mode >> 3 & 7, limit.mode & 7
        if gid is not None and gid != limit.gid:
            group &= others
        mode &= 0o700 | group << 3 | others
    return mode
