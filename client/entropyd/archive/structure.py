"""Reads all of an archive but its blocks: header, embedded model, index.

Invariant: an index that is returned has exactly one block for every coding unit, in order, so its users need
no checks.
"""

from __future__ import annotations

import google_crc32c
import numpy as np

from entropyd.archive.blocks import Index, read_chunk_header
from entropyd.archive.chunk_headers import ArchiveHeader, IndexHeader
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.layout import (
    BLOCK,
    ENTRY,
    EXACT_BLOCK,
    FOOTER,
    HEAD,
    INDEX,
    MODEL,
    PREFIX,
    LayoutError,
    parse_footer,
    parse_prefix,
)
from entropyd.archive.source import Source
from entropyd.contract.integrity import MAX_BLOCK_UNITS


def read_header(source: Source) -> ArchiveHeader:
    """Reads the prefix and the HEAD chunk; errors as `layout.parse_prefix`."""
    version = parse_prefix(source.read_at(0, PREFIX.size))
    frame, content = read_chunk_header(source, PREFIX.size)
    if frame.kind != HEAD:
        raise LayoutError("does not begin with a header")
    header = ArchiveHeader.parse(content)
    if header.version != version:
        raise LayoutError(f"has format version {version} and a header of version {header.version}")
    return header


def read_model(source: Source, header: ArchiveHeader) -> EmbeddedModel | None:
    """Reads the MODL chunk, which must be the model of the header; None if there is none."""
    offset = PREFIX.size + read_chunk_header(source, PREFIX.size)[0].chunk_bytes
    while offset < source.size - FOOTER.size:
        frame, content = read_chunk_header(source, offset)
        if frame.kind == MODEL:
            data = source.read_at(offset + frame.data_offset, frame.data_bytes)
            if google_crc32c.value(data) != frame.data_crc32c:
                raise LayoutError("has an embedded model that does not match its checksum")
            model = EmbeddedModel.parse(content, data)
            if (model.model_id, model.tables_digest) != (header.model_id, header.tables_digest):
                raise LayoutError("embeds another model than it was written with")
            return model
        if frame.kind in {BLOCK, EXACT_BLOCK, INDEX}:
            break
        offset += frame.chunk_bytes
    return None


def read_index(source: Source, header: ArchiveHeader) -> Index:
    """Reads footer and index."""
    end = source.size - FOOTER.size
    offset = parse_footer(source.read_at(max(end, 0), FOOTER.size), source.size)
    frame, content = read_chunk_header(source, offset)
    if frame.kind != INDEX or offset + frame.chunk_bytes != end or frame.data_bytes % ENTRY.itemsize:
        raise LayoutError("has no index at the place that its footer names")
    stated = IndexHeader.parse(content, header)
    # Kept in memory (16 bytes for a block of 64 KiB), so that it cannot change after the checks.
    content = source.read_at(offset + frame.data_offset, frame.data_bytes)
    if google_crc32c.value(content) != frame.data_crc32c:
        raise LayoutError("has an index that does not match its checksum")
    entries = np.frombuffer(content, ENTRY)
    first_units = np.append(entries["first_unit"], np.uint64(stated.units))
    units = np.diff(first_units)
    rising = bool((np.diff(entries["offset"], prepend=np.uint64(0)) - np.uint64(1) < source.size).all())
    if int(first_units[0]) != 0 or not rising or not (units - np.uint64(1) < MAX_BLOCK_UNITS).all():
        raise LayoutError("has an index whose blocks do not follow one another")
    return Index(entries, stated.units, stated.items)
