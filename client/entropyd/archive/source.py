"""The bytes of an archive: a file, or memory.

Invariant: any number of threads may read from one source; and a file that is written to while it is open is
an error, never other bytes.

Files are read, not mapped: with a mapping, a bad sector or a file that is cut short would end the process.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Protocol

from entropyd.contract.errors import DataLossError


class Source(Protocol):
    """Bytes with random access."""

    name: str
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`, fewer where the source ends.

        Raises:
          DataLossError: If the bytes have changed since it was opened.
          OSError: If they cannot be read.
        """

    def close(self) -> None: ...


class FileSource:
    """A regular file, which may be renamed, replaced or removed while it is open.

    Args:
      file: Unbuffered; closed with the source.
      name: For messages.

    Raises:
      OSError: If it is not a regular file.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            file.close()
            raise OSError(errno.ESPIPE, "is not a regular file; reading an archive needs random access", name)
        self.size = state.st_size
        self._changed_ns = state.st_mtime_ns

    @classmethod
    def open(cls, path: Path) -> FileSource:
        """Opens a file; OSError if it cannot be opened, or is not a regular file."""
        return cls(open(path, "rb", buffering=0, opener=_open_at_once), str(path))

    def read_at(self, offset: int, count: int) -> bytes:
        parts = []
        count = min(count, self.size - offset)  # a damaged file may ask for more than there is memory
        while count > 0 and (part := os.pread(self._file.fileno(), count, offset)):
            parts.append(part)
            offset += len(part)
            count -= len(part)
        # After reading, so that it covers what was read. Checksums do not suffice: a block of another archive
        # matches its own.
        state = os.fstat(self._file.fileno())
        if (state.st_size, state.st_mtime_ns) != (self.size, self._changed_ns):
            raise DataLossError(f"{self.name} was changed while it was open", reason="ARCHIVE_CHANGED")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._file.close()


def _open_at_once(path: str, flags: int) -> int:
    # Opening a pipe would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


class SharedSource:
    """The bytes of another source under a name of its own; closing it leaves the other open."""

    def __init__(self, source: Source, name: str) -> None:
        self.name = name
        self.size = source.size
        self._source = source

    def read_at(self, offset: int, count: int) -> bytes:
        return self._source.read_at(offset, count)

    def close(self) -> None:
        """Does nothing."""


class BytesSource:
    """Bytes in memory."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.size = len(content)
        self._content = content

    def read_at(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]

    def close(self) -> None:
        """Does nothing."""
