"""Reads all of an archive but its blocks: header, embedded model, index.

Invariant: an index that is returned has exactly one block for every coding unit, in order, and no block of
several parts, so its users need no checks.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c
import numpy as np

from entropyd.archive.blocks import Index, read_chunk_header
from entropyd.archive.chunk_headers import ArchiveHeader
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.file_header import FileHeader
from entropyd.archive.layout import (
    BLOCK,
    BUNDLE_VERSION,
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

OTHER_MODEL = "embeds another model than it was written with"


def is_bundle(source: Source) -> bool:
    """Whether the prefix says so; False for what cannot be read."""
    try:
        return parse_prefix(source.read_at(0, PREFIX.size)) == BUNDLE_VERSION
    except LayoutError:
        return False


def read_header(source: Source) -> FileHeader:
    """Reads the prefix and the HEAD chunk; errors as `layout.parse_prefix`."""
    version = parse_prefix(source.read_at(0, PREFIX.size))
    frame, content = read_chunk_header(source, PREFIX.size)
    if frame.kind != HEAD:
        raise LayoutError("does not begin with a header")
    return FileHeader.parse(version, content)


def read_model(source: Source, part: ArchiveHeader) -> EmbeddedModel | None:
    """Reads the MODL chunk of the model of an archive, or of a part of a bundle; None if there is none."""
    problem: LayoutError | None = None
    for model in embedded_models(source):
        if isinstance(model, LayoutError):
            problem = model
        elif (model.model_id, model.tables_digest) == (part.model_id, part.tables_digest):
            return model
        elif part.items is None:  # an archive
            problem = LayoutError(OTHER_MODEL)
    if problem is not None:
        raise problem
    return None


def embedded_models(source: Source) -> Iterator[EmbeddedModel | LayoutError]:
    """The models of all MODL chunks, or what is wrong with one."""
    offset = PREFIX.size + read_chunk_header(source, PREFIX.size)[0].chunk_bytes
    while offset < source.size - FOOTER.size:
        frame, content = read_chunk_header(source, offset)
        if frame.kind == MODEL:
            data = source.read_at(offset + frame.data_offset, frame.data_bytes)
            try:
                if google_crc32c.value(data) != frame.data_crc32c:
                    raise LayoutError("has an embedded model that does not match its checksum")
                yield EmbeddedModel.parse(content, data)
            except LayoutError as error:
                yield error
        if frame.kind in {BLOCK, EXACT_BLOCK, INDEX}:
            break
        offset += frame.chunk_bytes


def read_indexes(source: Source, file: FileHeader) -> list[Index]:
    """Reads footer and index, as the index of each part."""
    end = source.size - FOOTER.size
    offset = parse_footer(source.read_at(max(end, 0), FOOTER.size), source.size)
    frame, content = read_chunk_header(source, offset)
    if frame.kind != INDEX or offset + frame.chunk_bytes != end or frame.data_bytes % ENTRY.itemsize:
        raise LayoutError("has no index at the place that its footer names")
    stated = file.parse_index(content)
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
    if file.names is None:
        return [Index(entries, stated.units, stated.items)]
    begins = np.array([part.first_unit for part in file.parts if part.units], np.uint64)
    if not np.isin(begins, entries["first_unit"]).all():
        raise LayoutError("has an index with a block of several parts")
    return [Index.of_part(part, entries, stated.units) for part in file.parts]
