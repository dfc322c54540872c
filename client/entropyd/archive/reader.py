"""Reads archives as any type of CompressedUnits.

Invariant: opening an archive checks everything but the blocks. Only the blocks with selected units are read,
and each is checked whenever it is read.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from entropyd.archive.blocks import Index, StoredBlock, read_block
from entropyd.archive.chunk_headers import ArchiveHeader
from entropyd.archive.exact import ExactElements
from entropyd.archive.file_header import FileHeader, names_of
from entropyd.archive.layout import LayoutError, NewerVersionError
from entropyd.archive.recovery import recovered_indexes
from entropyd.archive.selection import selected_units
from entropyd.archive.source import BytesSource, FileSource, Source
from entropyd.archive.structure import read_header, read_indexes
from entropyd.archive.units import CompressedUnits, check_on_error, few
from entropyd.contract.errors import CorruptStringError, DataLossError, InvalidRequestError
from entropyd.contract.integrity import checksum, make_blocks
from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    from typing_extensions import Self

_Units = TypeVar("_Units", bound=CompressedUnits)


class OpenFile(ABC):
    """A file that is open for reading. Use it in a `with` statement, or close it.

    Attributes:
      name: The path, for messages.
    """

    _KIND: ClassVar[str]

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, recover: bool = False) -> Self:
        """Opens a file.

        Args:
          path: The file.
          recover: See `recover`.

        Raises:
          DataLossError: If it is no such file, is cut short, or its header or index is damaged.
          InvalidRequestError: If a newer version of the format wrote it; if it is a bundle in place of an
            archive, or the other way round.
          OSError: If it cannot be read.
        """
        return cls.of_source(FileSource.open(Path(path)), recover=recover)

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "the file") -> Self:
        """Opens the bytes of a file; errors as in `open`."""
        return cls.of_source(BytesSource(content, name))

    @classmethod
    def of_source(cls, source: Source, *, recover: bool = False) -> Self:
        """Opens a source, and closes it if that fails; errors as in `open`."""
        try:
            file = read_header(source)
            return cls._of_parts(source, file, (recovered_indexes if recover else read_indexes)(source, file))
        except NewerVersionError as error:
            source.close()
            raise InvalidRequestError.at(source.name, f"{error}: upgrade entropyd to read it") from error
        except LayoutError as error:
            source.close()
            raise DataLossError(f"{source.name} {error}", reason="ARCHIVE_DAMAGED") from error
        except BaseException:
            source.close()
            raise

    @classmethod
    @abstractmethod
    def _of_parts(cls, source: Source, file: FileHeader, indexes: list[Index]) -> Self:
        """The file whose header and indexes were read; InvalidRequestError if it is of another kind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        what = f"cannot pickle or copy {self._KIND}, which is an open file"
        raise TypeError(f"{what}: open its path again where it is read; what read() returns can be pickled")

    def close(self) -> None:
        """Closes the file."""
        self._source.close()


class ArchiveReader(OpenFile):
    """An archive, or a part of a bundle, opened for reading; see `Archive`."""

    _KIND = "an Archive"

    def __init__(self, source: Source, header: ArchiveHeader, index: Index) -> None:
        super().__init__(source)
        self._header = header
        self._index = index
        self._latest: StoredBlock | None = None  # adjacent units are often read one by one

    @classmethod
    def _of_parts(cls, source: Source, file: FileHeader, indexes: list[Index]) -> Self:
        if file.names is not None:
            found = f"is a bundle of {names_of(file.names)}; CompressedBundle.load reads it"
            raise InvalidRequestError.at(source.name, f"{found}, and Bundle.open opens its parts")
        return cls(source, file.parts[0], indexes[0])

    def read_as(
        self, kind: type[_Units], key: Any = ..., on_error: Literal["raise", "skip"] = "raise"
    ) -> _Units:
        """Reads the selected coding units; arguments and errors as of `Archive.read`."""
        check_on_error(on_error)
        shape, parts = self._selected(key, on_error)
        header = self._header
        return kind(
            header.model_id,
            header.tables_digest,
            header.dtype,
            shape,
            header.broadcast_shape,
            b"".join(part.payload for part in parts),
            np.concatenate([np.empty(0, np.uint32), *(part.lengths for part in parts)]),
            _checksums(parts),
            indexes_crc32c=_of_units(parts, "indexes_crc32c", np.uint32) if header.index_checksums else None,
            unit_numbers=_of_units(parts, "unit_numbers", np.int64) if header.unit_numbers else None,
        )

    def exact(self, key: Any = ..., *, on_error: Literal["raise", "skip"] = "raise") -> ExactElements:
        """Reads the exact elements of the selected coding units; errors as of `Archive.read`.

        Args:
          key: As for `Archive.read`.
          on_error: `skip` leaves out those of damaged units.

        Returns:
          Elements of the array that `read(key)` decodes to, with positions in its row-major order.
        """
        check_on_error(on_error)
        exact_dtype = self._header.exact_dtype
        if exact_dtype is None:
            return ExactElements.none(self._header.dtype)
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
        return ExactElements.joined(found, exact_dtype, int(ends[-1]) if parts else 0)

    def _selected(
        self, key: Any, on_error: Literal["raise", "skip"]
    ) -> tuple[tuple[int, ...], list[StoredBlock]]:
        """Shape of a selection, and its units as parts of stored blocks, in order."""
        selected = selected_units(key, self._index.items, self._header.item_shape)
        parts = list(self._parts(selected.reshape(-1)))
        if on_error == "raise" and (damaged := [part for part in parts if part.damage is not None]):
            bad = [unit for part in damaged for unit in range(part.first_unit, part.end_unit)]
            what = f"coding units {few(bad)} of {self.name} are damaged: {damaged[0].damage}"
            raise CorruptStringError(what, units=bad)
        return selected.shape, parts

    def _parts(self, units: npt.NDArray[np.int64]) -> Iterator[StoredBlock]:
        """Some units, in their order, as parts of stored blocks."""
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
        self._latest = block = self._block(self._index.block_of(unit))
        return block

    def _block(self, number: int) -> StoredBlock:
        """Reads a block, which may be damaged."""
        return read_block(self._source, self._header, self._index.place(number))


def _of_units(parts: Sequence[StoredBlock], name: str, dtype: type[np.integer[Any]]) -> npt.NDArray[Any]:
    """What the parts say of each unit; 0 for those that are lost."""
    found = [
        np.zeros(len(part.lengths), dtype) if getattr(part, name) is None else getattr(part, name)
        for part in parts
    ]
    joined: npt.NDArray[Any] = np.concatenate([np.empty(0, dtype), *found]).astype(dtype, copy=False)
    return joined


def _checksums(parts: Sequence[StoredBlock]) -> list[types_pb2.Block]:
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
