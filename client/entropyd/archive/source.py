"""Where the bytes of an archive are.

Invariant: readers share nothing but the bytes, so any number of threads may read from one source; and a file
that somebody writes to while it is open is an error, never other bytes.

Everything is read, nothing mapped: a sector that a disk cannot read is then an error of one block, and a file
that is cut short an error of that archive, where a mapping would end the process.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Protocol

from entropyd.contract.errors import DataLossError

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class Source(Protocol):
    """Bytes that can be read anywhere."""

    name: str
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`, fewer where the source ends.

        Raises:
          DataLossError: If the bytes are not those that were there when it was opened.
          OSError: If they cannot be read.
        """

    def close(self) -> None:
        """Lets go of the bytes."""


class FileSource:
    """A regular file. What happens to its name later, as when another archive replaces it, changes nothing.

    Args:
      file: Unbuffered; closed with the source.
      name: For messages.

    Raises:
      OSError: If it is no regular file.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            file.close()
            raise OSError(errno.ESPIPE, "is not a regular file; an archive is read here and there", name)
        self.size = state.st_size
        self._changed_ns = state.st_mtime_ns

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a file.

        Raises:
          OSError: If it cannot be opened, or is no regular file.
        """
        return cls(path.open("rb", buffering=0), str(path))

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`, fewer where the file ends; errors as of `Source`."""
        pieces = []
        count = min(count, self.size - offset)  # a damaged file may ask for more than there is memory
        while count > 0 and (piece := os.pread(self._file.fileno(), count, offset)):
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        # Afterwards, so that it holds for what was read. Checksums alone would not tell: a block of another
        # archive is whole, too.
        state = os.fstat(self._file.fileno())
        if (state.st_size, state.st_mtime_ns) != (self.size, self._changed_ns):
            raise DataLossError(f"{self.name} was changed while it was open", reason="ARCHIVE_CHANGED")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class BytesSource:
    """Bytes in memory."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.size = len(content)
        self._content = content

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`, fewer where the content ends."""
        return self._content[offset : offset + count]

    def close(self) -> None:
        """Nothing to let go of."""
