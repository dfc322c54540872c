"""Archives, opened for reading."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from entropyd.archive.blocks import StoredBlock, read_block_header
from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.layout import LayoutError
from entropyd.archive.reader import ArchiveReader
from entropyd.archive.structure import read_model
from entropyd.archive.tensor import CompressedTensor
from entropyd.archive.units import check_on_error
from entropyd.contract.errors import DataLossError


class Archive(ArchiveReader):
    """An archive, opened for reading. Thread-safe; close it, or use it in a `with` statement.

    Index it like the batch: `archive[12345]`, `archive[3:7]`, `archive[2, :5]`. That reads the blocks of the
    selected coding units, checks them, and gives a CompressedTensor.

    Attributes:
      name: The path, for messages.
    """

    @classmethod
    def recover(cls, path: str | os.PathLike[str]) -> Archive:
        """Opens a file that lost its end or its index, by looking through all of it.

        Coding units between the blocks that are found count as damaged. Those after the last whole block are
        missing, and so is an item of the first batch axis that is not whole: `complete` says whether the file
        may have had more than `batch_shape`, and `missing_units` how many more at least.

        Raises:
          DataLossError: If even the header is lost.
          InvalidRequestError: If a newer version of the format wrote it.
          OSError: If it cannot be read.
        """
        return cls.open(path, recover=True)

    def __repr__(self) -> str:
        return f"<entropyd.Archive {self.name} {self.dtype} batch_shape={self.batch_shape}>"

    def __len__(self) -> int:
        if self._header.item_shape is None:
            raise TypeError("an archive of a single coding unit has no length")
        return self._index.items

    def __getitem__(self, key: Any) -> CompressedTensor:
        """Reads the selected coding units; see `read`."""
        return self.read(key)

    @property
    def model_id(self) -> str:
        """Config hash of the model."""
        return self._header.model_id

    @property
    def tables_digest(self) -> bytes:
        """SHA-256 of the model's coding tables, 32 bytes."""
        return self._header.tables_digest

    @property
    def dtype(self) -> str:
        """Name of the array's dtype."""
        return self._header.dtype

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes left of the coding units."""
        item_shape = self._header.item_shape
        return () if item_shape is None else (self._index.items, *item_shape)

    @property
    def broadcast_shape(self) -> tuple[int, ...]:
        """Axes between batch_shape and the model's prior_shape."""
        return self._header.broadcast_shape

    @property
    def units(self) -> int:
        """Number of coding units."""
        return prod(self.batch_shape)

    @property
    def complete(self) -> bool:
        """Whether these are all coding units of the file; False where its end and index are lost."""
        return self._index.complete

    @property
    def missing_units(self) -> int:
        """Coding units that are known to be missing after the last one, where the archive is not complete.

        They are those of a block that is cut off, and of an item that is not whole. There may have been more,
        but for a part of a bundle, whose header tells of all.
        """
        return self._index.units + self._index.torn_units - self.units

    @property
    def exact_dtype(self) -> str | None:
        """Name of the dtype of exact elements; None for an archive that can have none."""
        return self._header.exact_dtype

    @property
    def index_checksums(self) -> bool:
        """Whether it has checksums of the indexes that its coding units were coded with."""
        return self._header.index_checksums

    @property
    def unit_numbers(self) -> bool:
        """Whether it has the numbers of its coding units in the arrays that they were compressed in."""
        return self._header.unit_numbers

    @property
    def symbols_per_unit(self) -> int | None:
        """Symbols of each coding unit; None if the writer did not know."""
        return self._header.symbols_per_unit

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The writer's metadata: JSON values by name."""
        return self._header.metadata

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return self._source.size

    @property
    def model(self) -> EmbeddedModel | None:
        """The embedded model, or None.

        Raises:
          DataLossError: If it is damaged.
        """
        try:
            return read_model(self._source, self._header)
        except LayoutError as error:
            raise DataLossError(f"{self.name} {error}", reason="ARCHIVE_DAMAGED") from error

    def read(self, key: Any = ..., *, on_error: Literal["raise", "skip"] = "raise") -> CompressedTensor:
        """Reads the selected coding units, and no blocks but theirs.

        Args:
          key: An integer, a slice or `...` for each axis of the batch; on the first axis also a vector of
            integers or a mask.
          on_error: `skip` returns damaged units too, with a checksum that does not match;
            `Model.decompress(..., on_error="skip")` then restores the others.

        Raises:
          CorruptStringError: If selected units are damaged; `.units` has their numbers in row-major order of
            the whole batch.
          InvalidRequestError: If on_error is neither `raise` nor `skip`.
          IndexError: As NumPy raises it.
        """
        return self.read_as(CompressedTensor, key, on_error)

    def blocks(self) -> Iterator[StoredBlock]:
        """Reads and checks all blocks, one after the other; damaged ones are included."""
        yield from map(self._block, range(len(self._index.entries)))

    def lengths(self) -> Iterator[npt.NDArray[np.uint32]]:
        """Reads the lengths of all bit strings in bytes, one block at a time, without the bit strings.

        Raises:
          DataLossError: If the lengths of a block are damaged.
        """
        for header in self.block_headers():
            yield header.lengths

    def block_headers(self, *, on_error: Literal["raise", "skip"] = "raise") -> Iterator[BlockHeader]:
        """Reads the headers of all blocks, one after the other, without the bit strings.

        Args:
          on_error: `skip` leaves out blocks whose headers are damaged or lost.

        Raises:
          DataLossError: If the header of a block is damaged or lost.
          InvalidRequestError: If on_error is neither `raise` nor `skip`.
        """
        check_on_error(on_error)
        for number in range(len(self._index.entries)):
            try:
                yield read_block_header(self._source, self._header, self._index.place(number))[1]
            except LayoutError as error:
                if on_error == "raise":
                    what = f"{self.name}: a block {error}"
                    raise DataLossError(what, reason="ARCHIVE_DAMAGED") from error
