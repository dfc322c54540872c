"""Reading archives.

Invariant: opening an archive checks everything but the blocks, and a block is checked whenever it is read, so
what `Archive` returns is what was stored; only the blocks that hold selected units are read.
"""

from __future__ import annotations

from itertools import groupby
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from entropyd.archive.blocks import read_block, read_block_head
from entropyd.archive.exact import ExactElements
from entropyd.archive.layout import LayoutError, NewerVersionError
from entropyd.archive.recovery import recovered_index
from entropyd.archive.selection import selected_units
from entropyd.archive.source import BytesSource, FileSource
from entropyd.archive.structure import read_header, read_index, read_model
from entropyd.archive.tensor import CompressedTensor, few
from entropyd.contract.errors import CorruptStringError, DataLossError, InvalidRequestError, Violation
from entropyd.contract.integrity import checksum, make_blocks
from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd.archive.blocks import Index, StoredBlock
    from entropyd.archive.chunk_headers import BlockHead, Header
    from entropyd.archive.embedded import EmbeddedModel
    from entropyd.archive.source import Source


class Archive:
    """An archive, opened for reading. Thread-safe; close it, or use it in a `with` statement.

    Index it like the batch: `archive[12345]`, `archive[3:7]`, `archive[2, :5]`. That reads the blocks of the
    selected coding units, checks them, and gives a CompressedTensor.

    Attributes:
      name: The path, for messages.
    """

    def __init__(self, source: Source, header: Header, index: Index) -> None:
        self.name = source.name
        self._source = source
        self._header = header
        self._index = index
        # Neighbours are often asked for one by one.
        self._latest: StoredBlock | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, recover: bool = False) -> Archive:
        """Opens a file.

        Args:
          path: The file.
          recover: See `recover`.

        Raises:
          DataLossError: If it is no archive, is cut short, or its header or index is damaged.
          InvalidRequestError: If a newer version of the format wrote it.
          OSError: If it cannot be read.
        """
        return cls.of_source(FileSource.open(Path(path)), recover=recover)

    @classmethod
    def recover(cls, path: str | os.PathLike[str]) -> Archive:
        """Opens a file that lost its end or its index, by looking through all of it.

        Coding units between blocks that can be found are damaged units. What follows the last whole block is
        missing, and so is an item of the first batch axis that is not whole: `complete` says whether the file
        can have held more than `batch_shape` has, `missing_units` how many that were at least.

        Raises:
          DataLossError: If even the header is lost.
          InvalidRequestError: If a newer version of the format wrote it.
          OSError: If it cannot be read.
        """
        return cls.open(path, recover=True)

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "the archive") -> Archive:
        """Opens the bytes of a file; errors as in `open`."""
        return cls.of_source(BytesSource(content, name))

    @classmethod
    def of_source(cls, source: Source, *, recover: bool = False) -> Archive:
        """Opens what a Source holds, and closes it if that fails; errors as in `open`."""
        try:
            header = read_header(source)
            index = recovered_index(source, header) if recover else read_index(source, header)
        except NewerVersionError as error:
            source.close()
            found = f"{error}: upgrade entropyd to read it"
            raise InvalidRequestError.of([Violation(source.name, found)]) from error
        except LayoutError as error:
            source.close()
            raise DataLossError(f"{source.name} {error}", reason="ARCHIVE_DAMAGED") from error
        except BaseException:
            source.close()
            raise
        return cls(source, header, index)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "cannot pickle or copy an Archive, which is an open file: open its path again where it is read; "
            "what read() returns can be pickled"
        )

    def close(self) -> None:
        """Lets go of the file."""
        self._latest = None
        self._source.close()

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
        """Whether the file says that it had no more coding units; False where its end and index are lost."""
        return self._index.complete

    @property
    def missing_units(self) -> int:
        """Coding units that are known to be missing behind the last one, where the archive is not complete.

        They are those of a block that is cut off, and of an item that is not whole. How many followed on
        them, the file does not say.
        """
        return self._index.units + self._index.torn_units - self.units

    @property
    def exact_dtype(self) -> str | None:
        """Name of the dtype of exact elements; None for an archive that can have none."""
        return self._header.exact_dtype

    @property
    def symbols_per_unit(self) -> int | None:
        """Symbols of each coding unit; None where the writer did not know."""
        return self._header.symbols_per_unit

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the writer said about the data: JSON values by name."""
        return self._header.metadata

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return self._source.size

    @property
    def model(self) -> EmbeddedModel | None:
        """The embedded model, None where there is none.

        Raises:
          DataLossError: If it is damaged.
        """
        try:
            return read_model(self._source, self._header)
        except LayoutError as error:
            raise DataLossError(f"{self.name} {error}", reason="ARCHIVE_DAMAGED") from error

    def read(self, key: Any = ..., *, on_error: Literal["raise", "skip"] = "raise") -> CompressedTensor:
        """Reads the selected coding units, whose blocks are all that is read.

        Args:
          key: An integer, a slice or `...` for each axis of the batch; on the first axis also a vector of
            integers or a mask.
          on_error: `skip` marks damaged units in the result instead of failing, by a checksum that does not
            match; `Model.decompress(..., on_error="skip")` then restores the others.

        Raises:
          CorruptStringError: If a selected unit is damaged; `.units` has the numbers of all that are, in
            row-major order of the whole batch.
          IndexError: As NumPy raises it.
        """
        shape, parts = self._selected(key, on_error)
        return CompressedTensor(
            self.model_id,
            self.tables_digest,
            self.dtype,
            shape,
            self.broadcast_shape,
            b"".join(part.payload for part in parts),
            np.concatenate([np.empty(0, np.uint32), *(part.lengths for part in parts)]),
            _checksums(parts),
        )

    def exact(self, key: Any = ..., *, on_error: Literal["raise", "skip"] = "raise") -> ExactElements:
        """Reads the exact elements of the selected coding units; errors as in `read`.

        Args:
          key: As for `read`.
          on_error: `skip` gives those of the units that are not damaged.

        Returns:
          Elements of the array that is restored from `read(key)`, with positions in its row-major order.
        """
        if self.exact_dtype is None:
            return ExactElements.none(self.dtype)
        _, parts = self._selected(key, on_error)
        sizes = {part.exact.elements // len(part.lengths) for part in parts if part.exact is not None}
        if len(sizes) > 1:
            raise DataLossError(f"{self.name} has coding units of several sizes", reason="ARCHIVE_DAMAGED")
        per_unit = max(sizes, default=0)
        ends = np.cumsum([len(part.lengths) for part in parts], dtype=np.int64) * per_unit
        found = [
            (int(end) - part.exact.elements, part.exact)
            for part, end in zip(parts, ends, strict=True)
            if part.exact is not None
        ]
        return ExactElements.joined(found, self.exact_dtype, int(ends[-1]) if parts else 0)

    def blocks(self) -> Iterator[StoredBlock]:
        """All blocks in order, each read and checked when its turn comes, damaged ones included."""
        for block in range(len(self._index.entries)):
            yield read_block(self._source, self._index.place(block), self.exact_dtype)

    def lengths(self) -> Iterator[npt.NDArray[np.uint32]]:
        """Lengths of all bit strings in bytes, one block at a time; bit strings are not read.

        Raises:
          DataLossError: If the lengths of a block are damaged.
        """
        for head in self.block_heads():
            yield head.lengths

    def block_heads(self, *, on_error: Literal["raise", "skip"] = "raise") -> Iterator[BlockHead]:
        """What all blocks say of their units, one after the other; bit strings are not read.

        Args:
          on_error: `skip` leaves out blocks whose heads are damaged or lost.

        Raises:
          DataLossError: If the head of a block is damaged or lost.
        """
        for block in range(len(self._index.entries)):
            try:
                yield read_block_head(self._source, self._index.place(block))[1]
            except LayoutError as error:
                if on_error == "raise":
                    what = f"{self.name}: a block {error}"
                    raise DataLossError(what, reason="ARCHIVE_DAMAGED") from error

    def _selected(
        self, key: Any, on_error: Literal["raise", "skip"]
    ) -> tuple[tuple[int, ...], list[StoredBlock]]:
        """Shape of a selection, and its units in their order, as parts of stored blocks."""
        selected = selected_units(key, self._index.items, self._header.item_shape)
        parts = list(self._parts(selected.reshape(-1)))
        if on_error == "raise" and (damaged := [part for part in parts if part.damage is not None]):
            bad = [unit for part in damaged for unit in range(part.first_unit, part.end_unit)]
            what = f"coding units {few(bad)} of {self.name} are damaged: {damaged[0].damage}"
            raise CorruptStringError(what, units=bad)
        return selected.shape, parts

    def _parts(self, units: npt.NDArray[np.int64]) -> Iterator[StoredBlock]:
        """The selected units in their order, as parts of stored blocks."""
        cuts = np.flatnonzero(np.diff(units) != 1) + 1
        for run in np.split(units, cuts):
            unit, end = (int(run[0]), int(run[-1]) + 1) if len(run) else (0, 0)
            while unit < end:
                block = self._block_with(unit)
                stop = min(end, block.end_unit)
                yield block.part(unit, stop)
                unit = stop

    def _block_with(self, unit: int) -> StoredBlock:
        latest = self._latest
        if latest is not None and latest.first_unit <= unit < latest.end_unit:
            return latest
        place = self._index.place(self._index.block_of(unit))
        block = read_block(self._source, place, self.exact_dtype)
        self._latest = block
        return block


def _checksums(parts: list[StoredBlock]) -> list[types_pb2.Block]:
    """Checksums of the parts, one after the other; those of damaged ones do not match."""
    blocks: list[types_pb2.Block] = []
    for damaged, group in groupby(parts, lambda part: part.damage is not None):
        run = list(group)
        payload = b"".join(part.payload for part in run)
        lengths = np.concatenate([part.lengths for part in run])
        if damaged:
            wrong = checksum(payload, lengths) ^ 0xFFFFFFFF
            blocks.append(types_pb2.Block(units=len(lengths), crc32c=wrong))
        else:
            blocks += make_blocks(payload, lengths)
    return blocks
