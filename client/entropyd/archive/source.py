"""Where the bytes of an archive are.

Owns positional reading. It must not know what the bytes mean. Invariant: readers share nothing but the
bytes, so any number of threads may read from one source.

Blocks are read, not mapped: a sector that a disk cannot read is then an error of one block, where a mapping
would end the process. The index, which was read once to check it, is mapped, so that it takes no memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


class Source(Protocol):
    """Bytes that can be read anywhere."""

    name: str
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`, fewer where the source ends."""

    def array_at(self, offset: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """`count` elements at `offset`, which are there; read-only."""

    def close(self) -> None:
        """Lets go of the bytes."""


class FileSource:
    """A file. What happens to its name later, as when another archive replaces it, changes nothing."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`, fewer where the file ends."""
        pieces = []
        while count > 0 and (piece := os.pread(self._file.fileno(), count, offset)):
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def array_at(self, offset: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """`count` elements at `offset`, mapped into memory."""
        if not count:
            return np.empty(0, dtype)  # nothing cannot be mapped
        return np.memmap(self._file, dtype, "r", offset, (count,))

    def close(self) -> None:
        """Closes the file; a mapping lives as long as the array that shows it."""
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

    def array_at(self, offset: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """`count` elements at `offset`."""
        return np.frombuffer(self._content, dtype, count, offset)

    def close(self) -> None:
        """Nothing to let go of."""
