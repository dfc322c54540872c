"""Finds the blocks of a file whose end or index is gone.

Invariant: the search ends whatever the bytes are, and the headers of found blocks match their checksums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from entropyd.archive.blocks import LOST, Index, read_chunk_header
from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.file_header import FileHeader
from entropyd.archive.layout import (
    BLOCK,
    CHECKSUM,
    CHUNK,
    ENTRY,
    EXACT_BLOCK,
    INDEX,
    PREFIX,
    ChunkFrame,
    LayoutError,
)
from entropyd.archive.source import Source
from entropyd.contract.integrity import MAX_BLOCK_UNITS

_WINDOW_BYTES = 1 << 20
_AFTER_DAMAGE = (BLOCK, EXACT_BLOCK, INDEX)
_LEAST_BLOCK_BYTES = CHUNK.size + CHECKSUM.size


@dataclass(frozen=True)
class Chunk:
    """A chunk, or what is found in its place.

    Attributes:
      offset: Where it begins.
      frame: Its frame; None where its header cannot be read.
      header: Its header.
      problem: None, or what is wrong: its header cannot be read, or its data end too early.
    """

    offset: int
    frame: ChunkFrame | None
    header: bytes = b""
    problem: str | None = None


def walk(source: Source, end: int) -> Iterator[Chunk]:
    """The chunks of a file, in order.

    After damage, the next one is the next block whose header matches its checksum.
    """
    offset = PREFIX.size
    while offset < end:
        try:
            frame, chunk_header = read_chunk_header(source, offset)
        except (LayoutError, OSError) as error:
            yield Chunk(offset, None, problem=str(error))
            offset = _next_block(source, offset + 1, end)
            continue
        if offset + frame.chunk_bytes > end:
            yield Chunk(offset, frame, chunk_header, "ends inside a chunk")
            offset = _next_block(source, offset + 1, end)
            continue
        yield Chunk(offset, frame, chunk_header)
        offset += frame.chunk_bytes


def recovered_indexes(source: Source, file: FileHeader) -> list[Index]:
    """An index for each part, of the blocks that are found, with LOST ones for missing units between them."""
    entries: list[tuple[int, int]] = []
    units, known_units, found_bytes = 0, 0, PREFIX.size
    for chunk in walk(source, source.size):
        if chunk.frame is None:
            continue
        lost_bytes = chunk.offset - found_bytes
        try:
            if chunk.frame.kind == INDEX:
                index = file.parse_index(chunk.header)
                entries += _lost(units, index.units, lost_bytes)
                units = index.units
                if file.names is None:
                    return [Index(np.array(entries, ENTRY), index.units, index.items)]
                break
            if chunk.frame.kind in {BLOCK, EXACT_BLOCK}:
                block = _block_header(chunk.frame.kind, chunk.header, file)
                lost = _lost(units, block.first_unit, lost_bytes)
                known_units = block.first_unit + len(block.lengths)
                if chunk.problem is not None:
                    continue  # its units are LOST if whole blocks follow
                entries += [*lost, (chunk.offset, block.first_unit)]
                units = known_units
        except LayoutError:
            continue  # of another archive, or no block: LOST if others follow
        if chunk.problem is None:
            found_bytes = chunk.offset + chunk.frame.chunk_bytes
    if file.names is not None:
        of_file = np.array(entries, ENTRY)
        return [Index.of_part(part, of_file, units) for part in file.parts]
    (header,) = file.parts
    if header.item_shape is None:  # so the archive has one coding unit
        if units > 1:
            raise LayoutError(f"has {units} coding units; its header says one")
        return [Index(np.array(entries or [(LOST, 0)], ENTRY), 1, 1)]
    per_item = header.units_per_item
    items = units // per_item if per_item else 0
    return [Index(np.array(entries, ENTRY), units, items, known_units - units, complete=False)]


def _block_header(kind: bytes, content: bytes, file: FileHeader) -> BlockHeader:
    """Reads the header of a block, whose units must be of one part."""
    part = file.part_with(BlockHeader.parse_first_unit(content))
    block = BlockHeader.parse(kind, content, numbered=part.unit_numbers)
    if part.items is not None and block.first_unit + len(block.lengths) > part.first_unit + part.units:
        raise LayoutError("has a block of several parts")
    return block


def _lost(units: int, first_unit: int, lost_bytes: int) -> list[tuple[int, int]]:
    """Entries for the units from `units` to `first_unit`, which were in `lost_bytes`."""
    most = lost_bytes // _LEAST_BLOCK_BYTES * MAX_BLOCK_UNITS
    if not 0 <= first_unit - units <= most:
        raise LayoutError("has a block in a place where it cannot be")
    return [(LOST, unit) for unit in range(units, first_unit, MAX_BLOCK_UNITS)]


def _next_block(source: Source, offset: int, end: int) -> int:
    """Offset of the next chunk that is whole, of a kind that can follow damage; `end` if there is none."""
    while offset < end:
        try:
            # Windows overlap by the four letters of a kind less one, so that none is missed.
            window = source.read_at(offset, _WINDOW_BYTES + len(BLOCK) - 1)
        except OSError:
            offset += _WINDOW_BYTES
            continue
        for place in sorted(place for kind in _AFTER_DAMAGE for place in _places(window, kind)):
            try:
                read_chunk_header(source, offset + place)
            except (LayoutError, OSError):
                continue
            return offset + place
        offset += _WINDOW_BYTES
    return end


def _places(window: bytes, kind: bytes) -> list[int]:
    places, place = [], window.find(kind)
    while place >= 0:
        places.append(place)
        place = window.find(kind, place + 1)
    return places
