"""What a HEAD chunk says of a file: the headers of its parts.

Invariant: the parts of a bundle have different names, and their units follow one another from 0.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from entropyd.archive.chunk_headers import ArchiveHeader, IndexHeader, reading_header, shape_of
from entropyd.archive.layout import BUNDLE_VERSION, LayoutError
from entropyd.contract.wire import MAX_ELEMENTS

# Before deflating: a few bytes of a hostile file must not take all memory.
MAX_DOCUMENT_BYTES = 1 << 24
# What the JSON has of each part, in this order.
_COLUMNS = (
    "name",
    "model_id",
    "tables_digest",
    "dtype",
    "batch_shape",
    "broadcast_shape",
    "symbols_per_unit",
    "index_checksums",
    "unit_numbers",
)


@dataclass(frozen=True)
class FileHeader:
    """The headers of the parts of a file.

    Attributes:
      parts: In the order of their units; an archive has one.
      metadata: The user's metadata, JSON values by name.
      names: Names of the parts of a bundle; None for an archive.
    """

    parts: tuple[ArchiveHeader, ...]
    metadata: Mapping[str, Any]
    names: tuple[str, ...] | None = None

    @classmethod
    def of_bundle(
        cls,
        parts: Sequence[tuple[str, ArchiveHeader, tuple[int, ...]]],
        metadata: Mapping[str, Any],
    ) -> FileHeader:
        """The header of a bundle.

        Args:
          parts: Name, header and batch_shape of each part.
          metadata: JSON values by name.
        """
        placed, first_unit = [], 0
        for _, header, batch_shape in parts:
            items = batch_shape[0] if batch_shape else 1
            placed.append(replace(header, items=items, first_unit=first_unit))
            first_unit += placed[-1].units
        return cls(tuple(placed), metadata, tuple(name for name, _, _ in parts))

    @classmethod
    def parse(cls, version: int, content: bytes) -> FileHeader:
        """Reads the header of a HEAD chunk in a file of that version."""
        if version == BUNDLE_VERSION:
            return cls._parse_bundle(content)
        header = ArchiveHeader.parse(content)
        if header.version != version:
            raise LayoutError(f"has format version {version} and a header of version {header.version}")
        return cls((header,), header.metadata)

    @classmethod
    def _parse_bundle(cls, content: bytes) -> FileHeader:
        with reading_header():
            document = json.loads(_inflated(content))
            parts = []
            for row in document["parts"]:
                columns = dict(zip(_COLUMNS, row[: len(_COLUMNS)], strict=True))
                batch_shape = shape_of(columns["batch_shape"], "batch_shape")
                columns["metadata"] = {}
                item_shape = batch_shape[1:] if batch_shape else None
                part = ArchiveHeader.of_document(columns, item_shape)
                parts.append((checked_name(columns["name"]), part, batch_shape))
            header = cls.of_bundle(parts, dict(document["metadata"]))
        if not parts or len(set(header.names or ())) != len(parts):
            raise LayoutError("has a header of no parts, or of several with one name")
        if header.units > MAX_ELEMENTS:
            raise LayoutError(f"has a header of {header.units} coding units")
        return header

    def pack(self) -> bytes:
        """Renders the HEAD chunk's header of a bundle; see `document`."""
        deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        return deflate.compress(self.document) + deflate.flush()

    @cached_property
    def document(self) -> bytes:
        """The JSON of a bundle; ValueError or TypeError if the metadata are not JSON."""
        rows = [
            [
                name,
                part.model_id,
                part.tables_digest.hex(),
                part.dtype,
                [] if part.item_shape is None else [part.items, *part.item_shape],
                part.broadcast_shape,
                part.symbols_per_unit,
                part.index_checksums,
                part.unit_numbers,
            ]
            for name, part in zip(self.names or (), self.parts, strict=True)
        ]
        document = {"parts": rows, "metadata": dict(self.metadata)}
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")

    @property
    def units(self) -> int:
        """Coding units of a bundle."""
        return self.parts[-1].first_unit + self.parts[-1].units

    def part_with(self, unit: int) -> ArchiveHeader:
        """The part that has a unit of the file; the last one for a number beyond all."""
        return self.parts[bisect_right(self._first_units, unit) - 1]

    def parse_index(self, content: bytes) -> IndexHeader:
        """Reads the header of the INDX chunk; LayoutError if it contradicts this one."""
        if self.names is None:
            return IndexHeader.parse(content, self.parts[0])
        index = IndexHeader.unpack(content)
        if index != IndexHeader(self.units, len(self.parts)):
            raise LayoutError(f"has an index of {index.units} coding units in {index.items} parts")
        return index

    @cached_property
    def _first_units(self) -> list[int]:
        return [part.first_unit for part in self.parts]


def checked_name(name: Any) -> str:
    """The name of a part; ValueError if it is none."""
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"has a part named {name!r:.40}; expected printable text")
    return name


def names_of(names: Iterable[str]) -> str:
    """Names of parts in words, for messages."""
    shown = list(names)
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f"{'part' if len(shown) == 1 else 'parts'} {', '.join(shown[:8])}{more}"


def _inflated(content: bytes) -> bytes:
    try:
        inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        document = inflate.decompress(content, MAX_DOCUMENT_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("it does not end where it should")
    return document
