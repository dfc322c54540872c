"""Output files.

Invariant: a regular file appears under its name when it is complete and on the disk, or not at all, and is at
most as readable as its sources. Devices, pipes and sockets are written to as they are.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from entropyd._modes import Limit, create, create_like

if TYPE_CHECKING:
    from typing_extensions import Self

_STANDARD_STREAMS = ("stdin", "stdout", "stderr")
# Bytes of a name; a temporary file's name is longer, and 255 is the usual limit.
_NAME_BYTES = 200
# Errors of opening or syncing a folder that say nothing of the file in it.
_CANNOT_SYNC = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


class Writable(Protocol):
    """A binary stream for writing."""

    def write(self, content: bytes, /) -> Any: ...  # all of it

    def flush(self) -> Any: ...


class Target:
    """Output to a stream, which stays open. The end of a `with` statement finishes it; an error discards it.

    `name` is that of the output in errors; None leaves errors as they are.
    """

    def __init__(self, stream: Writable, name: str | None = None) -> None:
        self._stream = stream
        self._name = name

    def write(self, content: bytes) -> None:
        with _naming(self._name):
            self._stream.write(content)

    def flush(self) -> None:
        with _naming(self._name):
            self._stream.flush()

    def finish(self) -> None:
        """Ends the output, which is complete."""
        self.flush()

    def discard(self) -> None:
        """Gives up the output; what a stream has taken stays there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            if error is None:
                self.finish()
        except BaseException:
            self.discard()
            raise
        if error is not None:
            self.discard()


class _Opened(Target):
    """Output to a device, pipe or socket that was opened here."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, name)
        self._file = file

    def finish(self) -> None:
        with _naming(self._name):
            self._file.close()

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()


class _NewFile(Target):
    """Output to a regular file, which gets its name when it is finished, and replaces a file of that name."""

    def __init__(
        self, path: Path, replaced: os.stat_result | None, limits: Sequence[Limit], *, replace: bool
    ) -> None:
        name = str(path)
        with _naming(name):
            self._resolved = Path(os.path.realpath(path))
            short = os.fsdecode(os.fsencode(self._resolved.name)[:_NAME_BYTES])
            self._temporary = self._resolved.with_name(f".{short}.{secrets.token_hex(4)}.part")
            if replaced is None:
                descriptor = create(self._temporary, limits)
            else:
                descriptor = create_like(self._temporary, replaced, limits)
        self._file = os.fdopen(descriptor, "wb")
        self._replace = replace
        super().__init__(self._file, name)

    def finish(self) -> None:
        with _naming(self._name):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if not self._replace and os.path.lexists(self._resolved):
                raise FileExistsError(errno.EEXIST, "exists already", self._name)
            self._temporary.replace(self._resolved)
            _sync_folder(self._resolved.parent)

    def discard(self) -> None:
        with suppress(OSError):  # a full disk fails once more
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def open_target(
    path: str | os.PathLike[str],
    *,
    sources: Sequence[os.stat_result] = (),
    replace: bool = True,
    private: bool = False,
) -> Target:
    """Opens an output file.

    A regular file is written as a temporary file beside it. That replaces an existing file when it is
    finished, with its mode and, where the process may set it, its owner. A new file has the mode that the
    umask leaves. Either is at most as readable as each of the sources.

    Args:
      path: An existing or new file; or a device, pipe or socket, or an open descriptor (/dev/stdout,
        /dev/fd/3), which is written to as it is.
      sources: `os.stat` of the files that the output is made of.
      replace: Whether an existing regular file may be replaced.
      private: Whether only the owner may read the file.

    Raises:
      FileExistsError: If it is an existing regular file that may not be replaced.
      IsADirectoryError: If it is a folder.
      OSError: If it is one of the sources, or cannot be written. All of them say `path`.
    """
    path = Path(path)
    found = _checked(path, sources, replace=replace)
    descriptor = open_descriptor(path)
    if found is not None and (descriptor is not None or not stat.S_ISREG(found.st_mode)):
        with _naming(str(path)):
            opened = _connected(path, found.st_mode) if descriptor is None else os.dup(descriptor)
            return _Opened(os.fdopen(opened, "wb"), str(path))
    limits = [Limit.of(source) for source in sources if stat.S_ISREG(source.st_mode)]
    if private:
        limits.append(Limit(0o600, -1))
    return _NewFile(path, found, limits, replace=replace)


def check_is_no_source(found: os.stat_result, sources: Sequence[os.stat_result], name: str) -> None:
    """Raises an OSError with `name` if an output would overwrite one of its sources."""
    stored = stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)
    if stored and any(os.path.samestat(found, source) for source in sources):
        raise OSError(errno.EINVAL, "is an input of this command, which its output would destroy", name)


def open_descriptor(path: str | os.PathLike[str]) -> int | None:
    """The open descriptor of a name such as /dev/stdout or /dev/fd/3; None for other names."""
    found = re.fullmatch(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(\d+)", os.fspath(path))
    if found is None:
        return None
    return _STANDARD_STREAMS.index(found[1]) if found[1] else int(found[2])


def _checked(path: Path, sources: Sequence[os.stat_result], *, replace: bool) -> os.stat_result | None:
    """`os.stat` of a path that may be written to; None if there is nothing yet."""
    name = str(path)
    descriptor = open_descriptor(path)
    try:
        with _naming(name):
            found = path.stat() if descriptor is None else os.fstat(descriptor)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected a file", name)
    check_is_no_source(found, sources, name)
    if stat.S_ISREG(found.st_mode) and descriptor is None and not replace:
        raise FileExistsError(errno.EEXIST, "exists already", name)
    return found


def _connected(path: Path, mode: int) -> int:
    """A descriptor of a device, pipe or socket."""
    if not stat.S_ISSOCK(mode):
        return os.open(path, os.O_WRONLY)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
        return connection.detach()
    finally:
        connection.close()


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder survive a power cut, where that can be asked for."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # The file is complete under its name. It is no error that the process may write to the folder and not
        # list it, or that a file system, such as some on networks, cannot sync folders.
        if error.errno not in _CANNOT_SYNC:
            raise


@contextmanager
def _naming(name: str | None) -> Iterator[None]:
    """Makes errors name the output, not its temporary file or nothing."""
    try:
        yield
    except OSError as error:
        if name is None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, name) from error
