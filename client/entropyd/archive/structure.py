"""All of an archive but its blocks: header, embedded model, index.

Owns reading and checking them. It must not know what is done with them. Invariant: an index that is returned
leads from every coding unit to one place, blocks in order, so nothing behind it checks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from entropyd.archive.blocks import Index, read_chunk_head
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.heads import Header, IndexHead
from entropyd.archive.layout import (
    BLOCK,
    ENTRY,
    FOOTER,
    HEAD,
    INDEX,
    MODEL,
    PREFIX,
    LayoutError,
    parse_footer,
)
from entropyd.contract.integrity import MAX_BLOCK_UNITS

if TYPE_CHECKING:
    from entropyd.archive.source import Source

_READ_BYTES = 1 << 20


def read_header(source: Source) -> Header:
    """Reads the HEAD chunk.

    Raises:
      LayoutError: If it is damaged.
    """
    frame, head = read_chunk_head(source, PREFIX.size)
    if frame.kind != HEAD:
        raise LayoutError("does not begin with a header")
    return Header.parse(head)


def read_model(source: Source, header: Header) -> EmbeddedModel | None:
    """Reads the MODL chunk, None where there is none.

    Raises:
      LayoutError: If it is damaged, or not the model of the header.
    """
    offset = PREFIX.size + read_chunk_head(source, PREFIX.size)[0].chunk_bytes
    while offset < source.size - FOOTER.size:
        frame, head = read_chunk_head(source, offset)
        if frame.kind == MODEL:
            data = source.read_at(offset + frame.data_offset, frame.data_bytes)
            if google_crc32c.value(data) != frame.data_crc32c:
                raise LayoutError("has an embedded model that does not match its checksum")
            model = EmbeddedModel.parse(head, data)
            if (model.model_id, model.tables_digest) != (header.model_id, header.tables_digest):
                raise LayoutError("embeds another model than it was written with")
            return model
        if frame.kind in {BLOCK, INDEX}:
            break
        offset += frame.chunk_bytes
    return None


def read_index(source: Source, header: Header) -> Index:
    """Reads footer and index.

    Raises:
      LayoutError: If the file is not complete, or they are damaged.
    """
    end = source.size - FOOTER.size
    offset = parse_footer(source.read_at(max(end, 0), FOOTER.size), source.size)
    frame, content = read_chunk_head(source, offset)
    if frame.kind != INDEX or offset + frame.chunk_bytes != end or frame.data_bytes % ENTRY.itemsize:
        raise LayoutError("has no index where its footer says")
    head = IndexHead.parse(content)
    if head.units != head.items * header.units_per_item or (header.item_shape is None and head.items != 1):
        raise LayoutError(f"has an index of {head.units} coding units in {head.items} items")
    start = offset + frame.data_offset
    _check_entries(source, range(start, end, _READ_BYTES), head.units, frame.data_crc32c)
    entries = source.array_at(start, frame.data_bytes // ENTRY.itemsize, ENTRY)
    return Index(entries, head.units, head.items)


def _check_entries(source: Source, windows: range, units: int, data_crc32c: int) -> None:
    """Checks the index, one window of it in memory at a time."""
    crc32c, previous_offset, previous_unit, blocks = 0, 0, 0, 0
    rising = True
    for first in windows:
        window = source.read_at(first, min(windows.step, windows.stop - first))
        crc32c = google_crc32c.extend(crc32c, window)
        entries = np.frombuffer(window, ENTRY)
        offsets = np.concatenate(([np.uint64(previous_offset)], entries["offset"]))
        first_units = np.concatenate(([np.uint64(previous_unit)], entries["first_unit"]))
        steps = np.diff(first_units)
        if not blocks:
            rising &= int(first_units[1]) == 0
            steps = steps[1:]
        rising &= bool((offsets[1:] > offsets[:-1]).all() and (steps - np.uint64(1) < MAX_BLOCK_UNITS).all())
        previous_offset, previous_unit = int(offsets[-1]), int(first_units[-1])
        blocks += len(entries)
    if crc32c != data_crc32c:
        raise LayoutError("has an index that does not match its checksum")
    last_units = units - previous_unit if blocks else units
    if not rising or not (0 < last_units <= MAX_BLOCK_UNITS if blocks else units == 0):
        raise LayoutError("has an index whose blocks do not follow one another")
