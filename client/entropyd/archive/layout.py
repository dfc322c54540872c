"""The bytes of an archive: prefix, chunks, footer, as docs/archive.md describes them.

Invariant: a checksum covers every structural byte; parsing inverts packing, and parsing anything else is a
LayoutError that says what is wrong. `chunk_headers` has the headers of each kind of chunk.

Integers are little-endian and unsigned. An archive is a prefix, chunks, and a footer:

    prefix  magic 8 | version u32 | CRC32C of both u32
    chunk   kind 4 | header bytes u32 | data bytes u64 | data CRC32C u32 | header | CRC32C so far u32 | data
    footer  index offset u64 | file bytes u64 | CRC32C of both u32 | end magic 8
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import google_crc32c
import numpy as np

# Version 2 adds blocks with exact elements, which a reader of version 1 must not skip. Version 3 adds the
# checksums of indexes and the numbers of units to blocks. Version 4 is a bundle of several tensors.
PLAIN_VERSION, EXACT_VERSION, INDEXED_VERSION, BUNDLE_VERSION = 1, 2, 3, 4

MAGIC = b"\x89ENTR\r\n\x1a"
END_MAGIC = MAGIC[::-1]

HEAD, MODEL, BLOCK, EXACT_BLOCK, INDEX = b"HEAD", b"MODL", b"BLCK", b"BLKX", b"INDX"

PREFIX = struct.Struct("<8sII")
CHUNK = struct.Struct("<4sIQI")
FOOTER = struct.Struct("<QQI8s")
CHECKSUM = struct.Struct("<I")
INDEX_CHECKSUM = np.dtype("<u4")
ENTRY = np.dtype([("offset", "<u8"), ("first_unit", "<u8")])


class LayoutError(ValueError):
    """Bytes that are not of this format."""


class NewerVersionError(LayoutError):
    """An intact prefix with a version that this code does not know."""


@dataclass(frozen=True)
class ChunkFrame:
    """The first bytes of a chunk, which say where it ends.

    Attributes:
      kind: Four ASCII letters.
      header_bytes: Length of the header.
      data_bytes: Length of the data.
      data_crc32c: Checksum of the data; in a block, of the units' lengths followed by the data.
    """

    kind: bytes
    header_bytes: int
    data_bytes: int
    data_crc32c: int

    @classmethod
    def unpack(cls, content: bytes) -> ChunkFrame:
        """Reads a frame; `parse_chunk_header` checks it."""
        if len(content) < CHUNK.size:
            raise LayoutError("ends inside a chunk")
        return cls(*CHUNK.unpack_from(content))

    @property
    def data_offset(self) -> int:
        return CHUNK.size + self.header_bytes + CHECKSUM.size

    @property
    def chunk_bytes(self) -> int:
        return self.data_offset + self.data_bytes


def pack_prefix(version: int) -> bytes:
    start = PREFIX.pack(MAGIC, version, 0)[: -CHECKSUM.size]
    return start + CHECKSUM.pack(google_crc32c.value(start))


def parse_prefix(content: bytes) -> int:
    """Reads the first 16 bytes of a file; returns its format version.

    Raises:
      NewerVersionError: If a later version of the format wrote it.
      LayoutError: If it is no archive, or the prefix is damaged.
    """
    if not content.startswith(MAGIC):
        raise LayoutError("is not an entropyd file" if content else "is empty")
    if len(content) < PREFIX.size:
        raise LayoutError("ends inside its first 16 bytes")
    _, version, crc32c = PREFIX.unpack_from(content)
    if crc32c != google_crc32c.value(content[: PREFIX.size - CHECKSUM.size]):
        raise LayoutError("has a damaged prefix")
    if not PLAIN_VERSION <= version <= BUNDLE_VERSION:
        known = f"{PLAIN_VERSION} to {BUNDLE_VERSION}"
        raise NewerVersionError(f"has format version {version}; this version of entropyd knows {known}")
    return int(version)


def pack_chunk(kind: bytes, header: bytes, data: bytes = b"", data_crc32c: int | None = None) -> bytes:
    """Renders a chunk; without `data_crc32c`, the checksum is that of the data."""
    crc32c = google_crc32c.value(data) if data_crc32c is None else data_crc32c
    start = CHUNK.pack(kind, len(header), len(data), crc32c) + header
    return b"".join((start, CHECKSUM.pack(google_crc32c.value(start)), data))


def parse_chunk_header(content: bytes) -> tuple[ChunkFrame, bytes]:
    """Reads the frame and the header of a chunk."""
    frame = ChunkFrame.unpack(content)
    end = CHUNK.size + frame.header_bytes
    if len(content) < end + CHECKSUM.size:
        raise LayoutError("ends inside a chunk")
    if CHECKSUM.unpack_from(content, end) != (google_crc32c.value(content[:end]),):
        raise LayoutError("has a chunk header that does not match its checksum")
    return frame, content[CHUNK.size : end]


def pack_footer(index_offset: int, file_bytes: int) -> bytes:
    start = FOOTER.pack(index_offset, file_bytes, 0, b"")[:16]
    return FOOTER.pack(index_offset, file_bytes, google_crc32c.value(start), END_MAGIC)


def parse_footer(content: bytes, file_bytes: int) -> int:
    """Reads the last 28 bytes of a file of `file_bytes`; returns the offset of the index."""
    if len(content) != FOOTER.size or not content.endswith(END_MAGIC):
        raise LayoutError("is not complete: it has no footer")
    index_offset, stated_bytes, crc32c, _ = FOOTER.unpack(content)
    if crc32c != google_crc32c.value(content[:16]):
        raise LayoutError("has a damaged footer")
    if stated_bytes != file_bytes:
        raise LayoutError(f"has {file_bytes} bytes; its footer says {stated_bytes}")
    return int(index_offset)
