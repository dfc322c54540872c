"""Bundles, opened for reading."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from entropyd.archive.archive import Archive
from entropyd.archive.blocks import Index
from entropyd.archive.file_header import FileHeader
from entropyd.archive.reader import OpenFile
from entropyd.archive.source import SharedSource, Source
from entropyd.contract.errors import InvalidRequestError

if TYPE_CHECKING:
    from typing_extensions import Self


class Bundle(OpenFile, Mapping[str, Archive]):
    """A bundle, opened for reading: a mapping of an Archive for each part, by name.

    `bundle["y"][3:7]` reads the blocks of these coding units of `y`, and no others. Thread-safe; close it, or
    use it in a `with` statement. Its parts are closed with it.

    Attributes:
      name: The path, for messages.
      metadata: The writer's metadata: JSON values by name.
    """

    _KIND = "a Bundle"

    def __init__(self, source: Source, file: FileHeader, indexes: list[Index]) -> None:
        super().__init__(source)
        self.metadata: Mapping[str, Any] = file.metadata
        self._parts = {
            name: Archive(SharedSource(source, f"part {name} of {source.name}"), header, index)
            for name, header, index in zip(file.names or (), file.parts, indexes, strict=True)
        }

    @classmethod
    def recover(cls, path: str | os.PathLike[str]) -> Bundle:
        """Opens a file that lost its end or its index, by looking through all of it.

        The parts before its end are complete. Each says by `complete` and `missing_units` what it lacks; see
        `Archive.recover`.

        Raises:
          DataLossError: If even the header is lost.
          InvalidRequestError: If it is an archive, or a newer version of the format wrote it.
          OSError: If it cannot be read.
        """
        return cls.open(path, recover=True)

    @classmethod
    def _of_parts(cls, source: Source, file: FileHeader, indexes: list[Index]) -> Self:
        if file.names is None:
            raise InvalidRequestError.at(source.name, "is an archive of one tensor; Archive.open reads it")
        return cls(source, file, indexes)

    def __repr__(self) -> str:
        return f"<entropyd.Bundle {self.name} {list(self)}>"

    def __getitem__(self, name: str) -> Archive:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return self._source.size
