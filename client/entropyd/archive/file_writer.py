"""Writes the chunks of a file, and the index that finds them.

Invariant: a file appears under its name when it is complete and on the disk, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd._target import Target, Writable, open_target
from entropyd.archive.chunk_headers import IndexHeader
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.layout import ENTRY, HEAD, INDEX, MODEL, pack_chunk, pack_footer, pack_prefix

if TYPE_CHECKING:
    from typing_extensions import Self


class FileWriter:
    """A file that is being written. `finish` completes it; an error in its `with` statement removes it.

    Args:
      target: As of `ArchiveWriter`.

    Attributes:
      file_bytes: Bytes written so far.
    """

    def __init__(self, target: str | os.PathLike[str] | Writable) -> None:
        self._target = open_target(target) if isinstance(target, (str, os.PathLike)) else Target(target)
        self._entries: list[npt.NDArray[Any]] = []
        self._recent: list[tuple[int, int]] = []
        self.file_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            self._target.discard()

    def begin(self, version: int, header: bytes, models: Iterable[EmbeddedModel]) -> None:
        """Writes all that stands before the blocks."""
        self._write(pack_prefix(version))
        self._write(pack_chunk(HEAD, header))
        for model in models:
            self._write(pack_chunk(MODEL, *model.pack()))

    def write_block(self, first_unit: int, chunk: bytes) -> None:
        """Writes the chunk of a block that begins with this unit of the file."""
        self._recent.append((self.file_bytes, first_unit))
        self._write(chunk)
        if len(self._recent) >= 4096:
            self._fold_entries()

    def finish(self, header: IndexHeader) -> None:
        """Writes index and footer, and ends the file."""
        self._fold_entries()
        index_offset = self.file_bytes
        index = np.concatenate([np.empty(0, ENTRY), *self._entries])
        self._write(pack_chunk(INDEX, header.pack(), index.tobytes()))
        footer_bytes = len(pack_footer(0, 0))
        self._write(pack_footer(index_offset, self.file_bytes + footer_bytes))
        self._target.finish()

    def _fold_entries(self) -> None:
        # Tuples take ten times the memory of the array.
        self._entries.append(np.array(self._recent, ENTRY))
        self._recent.clear()

    def _write(self, content: bytes) -> None:
        self._target.write(content)
        self.file_bytes += len(content)
