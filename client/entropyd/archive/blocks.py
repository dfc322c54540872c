"""Stored blocks, and the index that finds them.

Invariant: a block that cannot be read, or does not match its checksums, is a damaged block that says why; it
never holds other units.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.archive.chunk_headers import ArchiveHeader, BlockHeader
from entropyd.archive.exact import ExactElements
from entropyd.archive.layout import (
    BLOCK,
    CHECKSUM,
    CHUNK,
    ENTRY,
    EXACT_BLOCK,
    INDEX_CHECKSUM,
    ChunkFrame,
    LayoutError,
    parse_chunk_header,
)
from entropyd.archive.source import Source
from entropyd.contract.integrity import checksum

# Far more than any header has; a damaged frame must not make a reader allocate more.
MAX_HEADER_BYTES = 1 << 24
# Offset of a block that is gone; no block can have it.
LOST = 0


@dataclass(frozen=True, eq=False)
class StoredBlock:
    """Adjacent coding units of an archive.

    Attributes:
      first_unit: Number of the first unit.
      lengths: uint32 [units], the length of each bit string in bytes; zeros where they are lost.
      payload: The bit strings; empty where they are lost.
      exact: Exact elements of the units, counted from the first one's first; None where there are none.
      indexes_crc32c: uint32 [units], checksums of the units' indexes; None in an archive without them, or
        where they are lost.
      unit_numbers: int64 [units], numbers of the units in the arrays that they were compressed in; likewise.
      damage: What is wrong, None where nothing is.
    """

    first_unit: int
    lengths: npt.NDArray[np.uint32]
    payload: bytes
    exact: ExactElements | None = None
    indexes_crc32c: npt.NDArray[np.uint32] | None = None
    unit_numbers: npt.NDArray[np.int64] | None = None
    damage: str | None = None

    @classmethod
    def lost(cls, first_unit: int, end_unit: int, damage: str) -> StoredBlock:
        """A block whose units are known, and nothing else."""
        return cls(first_unit, np.zeros(end_unit - first_unit, np.uint32), b"", damage=damage)

    @property
    def end_unit(self) -> int:
        return self.first_unit + len(self.lengths)

    def part(self, first: int, last: int) -> StoredBlock:
        """The units from `first` to `last`, not included."""
        a, b = first - self.first_unit, last - self.first_unit
        payload = self.payload[int(self._ends[a]) : int(self._ends[b])]
        exact = self.exact
        if exact is not None:
            per_unit = exact.elements // len(self.lengths)
            exact = exact.part(a * per_unit, b * per_unit)
        checksums, numbers = self.indexes_crc32c, self.unit_numbers
        return StoredBlock(
            first,
            self.lengths[a:b],
            payload,
            exact,
            None if checksums is None else checksums[a:b],
            None if numbers is None else numbers[a:b],
            self.damage,
        )

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))


@dataclass(frozen=True, eq=False)
class Index:
    """Where the blocks of an archive, or of a part of a bundle, are.

    Attributes:
      entries: `layout.ENTRY` [blocks] in order of their units, which count from 0; LOST for the offset of one
        that is gone.
      units: Number of coding units.
      items: Length of the first batch axis; 1 without batch axes.
      torn_units: Coding units that are known to be missing after these: of a block that is cut off, or, in a
        bundle, of which the header tells.
      complete: Whether these are all coding units of the file.
    """

    entries: npt.NDArray[Any]
    units: int
    items: int
    torn_units: int = 0
    complete: bool = True

    @classmethod
    def of_part(cls, part: ArchiveHeader, entries: npt.NDArray[Any], end_unit: int) -> Index:
        """The index of a part of a bundle.

        Args:
          part: Its header.
          entries: Those of the whole file, whose units before `end_unit` they have.
          end_unit: The units from this one on are missing.
        """
        found = min(max(end_unit - part.first_unit, 0), part.units)
        if part.item_shape is None:
            found = 1  # a single unit is one whatever is left of it
        ends = np.array([part.first_unit, part.first_unit + found], np.uint64)
        own = entries[slice(*np.searchsorted(entries["first_unit"], ends))].copy()
        own["first_unit"] -= ends[0]
        if found and (not len(own) or own["first_unit"][0]):  # the first units were lost with those before
            own = np.concatenate([np.array([(LOST, 0)], ENTRY), own])
        complete = found == part.units
        items = part.items if complete else found // part.units_per_item
        return cls(own, found, items or 0, part.units - found, complete)

    def block_of(self, unit: int) -> int:
        return bisect_right(self.entries["first_unit"], unit) - 1

    def place(self, block: int) -> tuple[int, int, int]:
        """Offset, first unit, and unit after the last one of a block."""
        offset, first_unit = self.entries[block].tolist()
        if block + 1 < len(self.entries):
            return offset, first_unit, int(self.entries["first_unit"][block + 1])
        return offset, first_unit, self.units


def read_chunk_header(source: Source, offset: int) -> tuple[ChunkFrame, bytes]:
    """Reads frame and header of the chunk at `offset`; its data may reach beyond the end of the source."""
    start = source.read_at(offset, CHUNK.size)
    frame = ChunkFrame.unpack(start)
    if frame.header_bytes > MAX_HEADER_BYTES:
        raise LayoutError(f"has a chunk header of {frame.header_bytes} bytes")
    rest = source.read_at(offset + CHUNK.size, frame.header_bytes + CHECKSUM.size)
    return parse_chunk_header(start + rest)


def read_block_header(
    source: Source, archive: ArchiveHeader, place: tuple[int, int, int]
) -> tuple[ChunkFrame, BlockHeader]:
    """Reads frame and header of the block at a place of the index; LayoutError unless it is there, whole."""
    offset, first_unit, end_unit = place
    if offset == LOST:
        raise LayoutError("is lost")
    frame, content = read_chunk_header(source, offset)
    if frame.kind not in {BLOCK, EXACT_BLOCK}:
        raise LayoutError("is not where the index says")
    header = BlockHeader.parse(frame.kind, content, numbered=archive.unit_numbers)
    first_in_file = archive.first_unit + first_unit
    if (header.first_unit, len(header.lengths)) != (first_in_file, end_unit - first_unit):
        raise LayoutError("is not the one that the index says")
    if offset + frame.chunk_bytes > source.size:
        raise LayoutError("is cut off")
    exact_bytes = frame.data_bytes - header.payload_bytes - _checksum_bytes(archive, header)
    if exact_bytes < 0 or (exact_bytes > 0) != (frame.kind == EXACT_BLOCK):
        raise LayoutError("has lengths that do not add up to its data")
    return frame, header


def read_block(source: Source, archive: ArchiveHeader, place: tuple[int, int, int]) -> StoredBlock:
    """Reads and checks the block at a place of the index."""
    offset, first_unit, end_unit = place
    try:
        frame, header = read_block_header(source, archive, place)
        data = source.read_at(offset + frame.data_offset, frame.data_bytes)
        payload, numbers = data[: header.payload_bytes], header.unit_numbers
        if checksum(data, header.lengths) != frame.data_crc32c:
            damage, payload = (
                "the bit strings do not match their checksum",
                payload.ljust(header.payload_bytes, b"\0"),
            )
            return StoredBlock(first_unit, header.lengths, payload, unit_numbers=numbers, damage=damage)
        exact_start = header.payload_bytes + _checksum_bytes(archive, header)
        checksums = None
        if archive.index_checksums:
            checksums = np.frombuffer(data[header.payload_bytes : exact_start], INDEX_CHECKSUM)
        exact = _exact(header, data[exact_start:], archive.exact_dtype)
    except LayoutError as error:
        return StoredBlock.lost(first_unit, end_unit, f"the block {error}")
    except OSError as error:
        return StoredBlock.lost(first_unit, end_unit, f"the block cannot be read: {error.strerror}")
    return StoredBlock(first_unit, header.lengths, payload, exact, checksums, numbers)


def _checksum_bytes(archive: ArchiveHeader, header: BlockHeader) -> int:
    return len(header.lengths) * INDEX_CHECKSUM.itemsize if archive.index_checksums else 0


def _exact(header: BlockHeader, content: bytes, dtype: str | None) -> ExactElements | None:
    if not header.exact_elements:
        return None
    if dtype is None:
        raise LayoutError("has exact elements in a file without their dtype")
    exact = ExactElements.unpack(content, dtype, header.elements_per_unit * len(header.lengths))
    if len(exact) != header.exact_elements:
        raise LayoutError(f"has {len(exact)} exact elements; its header says {header.exact_elements}")
    return exact
