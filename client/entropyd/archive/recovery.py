"""Finding the blocks of a file whose end or index is gone.

Owns the walk over chunks. It must not know what is in a block beyond its head. Invariant: it ends whatever
the bytes are, and a block that it finds has matched the checksum of its head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd.archive.blocks import LOST, Index, read_chunk_head
from entropyd.archive.heads import BlockHead, IndexHead
from entropyd.archive.layout import BLOCK, CHECKSUM, CHUNK, ENTRY, INDEX, PREFIX, LayoutError
from entropyd.contract.integrity import MAX_BLOCK_UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd.archive.heads import Header
    from entropyd.archive.layout import ChunkFrame
    from entropyd.archive.source import Source

_WINDOW_BYTES = 1 << 20
_LEAST_BLOCK_BYTES = CHUNK.size + CHECKSUM.size


def walk(source: Source, end: int) -> Iterator[tuple[int, ChunkFrame | None, bytes]]:
    """Whole chunks from the begin of a file, in order.

    After damage it goes on at the next block whose head matches its checksum.

    Yields:
      Offset, frame and head of each chunk; offset, None and what is wrong where none can be read.
    """
    offset = PREFIX.size
    while offset < end:
        try:
            frame, head = read_chunk_head(source, offset)
        except (LayoutError, OSError) as error:
            yield offset, None, str(error).encode()
            offset = _next_block(source, offset + 1, end)
            continue
        yield offset, frame, head
        offset += frame.chunk_bytes


def recovered_index(source: Source, header: Header) -> Index:
    """An index of the blocks that can be found, with LOST ones where units between them are missing.

    Raises:
      LayoutError: If the archive was a single coding unit, and that is gone.
    """
    entries: list[tuple[int, int]] = []
    units, items, found_bytes = 0, None, PREFIX.size
    for offset, frame, content in walk(source, source.size):
        if frame is None:
            continue
        try:
            if frame.kind == INDEX:
                head = IndexHead.parse(content)
                lost = _lost(units, head.units, offset - found_bytes)
                entries, units, items = entries + lost, head.units, head.items
                break
            if frame.kind == BLOCK:
                block = BlockHead.parse(content)
                entries += _lost(units, block.first_unit, offset - found_bytes)
                entries.append((offset, block.first_unit))
                units = block.first_unit + len(block.lengths)
        except LayoutError:
            continue  # not of this archive, or of no archive: its units are missed where others follow
        found_bytes = offset + frame.chunk_bytes
    if items is None:
        per_item = header.units_per_item
        items = units // per_item if per_item else 0
    if header.item_shape is None and units != 1:
        raise LayoutError("has lost its only coding unit")
    return Index(np.array(entries, ENTRY), units, items)


def _lost(units: int, first_unit: int, lost_bytes: int) -> list[tuple[int, int]]:
    """Entries for the units from `units` to `first_unit`, which stood in `lost_bytes`."""
    most = lost_bytes // _LEAST_BLOCK_BYTES * MAX_BLOCK_UNITS
    if not 0 <= first_unit - units <= most:
        raise LayoutError("has a block in a place where it cannot be")
    return [(LOST, unit) for unit in range(units, first_unit, MAX_BLOCK_UNITS)]


def _next_block(source: Source, offset: int, end: int) -> int:
    """Offset of the next chunk that is whole, of a kind that can follow damage; `end` if there is none."""
    while offset < end:
        try:
            # Overlapping by a kind's four letters less one, so that none is missed between windows.
            window = source.read_at(offset, _WINDOW_BYTES + len(BLOCK) - 1)
        except OSError:
            offset += _WINDOW_BYTES
            continue
        for place in sorted(_places(window, BLOCK) + _places(window, INDEX)):
            try:
                read_chunk_head(source, offset + place)
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
