"""The headers of chunks: archive, block and index, as docs/archive.md describes them.

Invariant: as in `layout`, parsing inverts packing, in bounded memory whatever is parsed; anything else is a
LayoutError.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.archive.exact import BIT_PATTERNS
from entropyd.archive.layout import (
    BLOCK,
    EXACT_BLOCK,
    EXACT_VERSION,
    INDEXED_VERSION,
    PLAIN_VERSION,
    LayoutError,
)
from entropyd.archive.units import CompressedUnits, numbers_of, runs_of
from entropyd.archive.varints import MAX_GROUPS, packed_varints, unpacked_varints
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.integrity import MAX_BLOCK_UNITS
from entropyd.contract.wire import MAX_ELEMENTS, shape_from_message

_BLOCK_HEADER = struct.Struct("<QI")
_EXACT_COUNTS = struct.Struct("<QQ")
_INDEX_HEADER = struct.Struct("<QQ")
# A length is at most 2^32 - 1, five groups of seven bits.
_MAX_VARINT_BYTES = 5


@dataclass(frozen=True)
class ArchiveHeader:
    """What all coding units of an archive share.

    Attributes:
      model_id: Config hash of the model.
      tables_digest: SHA-256 of the model's coding tables, 32 bytes.
      dtype: Name of the array's dtype.
      item_shape: Axes of the batch right of the first; None for a single coding unit without batch axes.
      broadcast_shape: Axes between the batch and the model's prior_shape.
      symbols_per_unit: Symbols of each coding unit; None if the writer did not know.
      metadata: The user's metadata, JSON values by name.
      exact_dtype: Name of the dtype of exact elements; None for an archive that can have none.
      index_checksums: Whether blocks have checksums of the units' indexes.
      unit_numbers: Whether blocks have the units' numbers in the arrays that they were compressed in.
      items: Length of the first batch axis, 1 without batch axes; None in an archive, where INDX says it.
      first_unit: Number of the first unit in the file; above 0 only in a bundle.
    """

    model_id: str
    tables_digest: bytes
    dtype: str
    item_shape: tuple[int, ...] | None
    broadcast_shape: tuple[int, ...]
    symbols_per_unit: int | None
    metadata: Mapping[str, Any]
    exact_dtype: str | None = None
    index_checksums: bool = False
    unit_numbers: bool = False
    items: int | None = None
    first_unit: int = 0

    @classmethod
    def of(
        cls, tensor: CompressedUnits, metadata: Mapping[str, Any], exact_dtype: str | None = None
    ) -> ArchiveHeader:
        """The header of an archive of that tensor."""
        symbols = tensor.rate.symbols if tensor.rate is not None else 0
        known = bool(symbols) and len(tensor.lengths) > 0
        return cls(
            tensor.model_id,
            tensor.tables_digest,
            tensor.dtype,
            tensor.batch_shape[1:] if tensor.batch_shape else None,
            tensor.broadcast_shape,
            symbols // len(tensor.lengths) if known else None,
            metadata,
            exact_dtype,
            tensor.indexes_crc32c is not None,
            tensor.unit_numbers is not None,
        )

    def pack(self) -> bytes:
        """Renders the JSON of a HEAD chunk; ValueError or TypeError if the metadata are not JSON."""
        document: dict[str, Any] = {
            "model_id": self.model_id,
            "tables_digest": self.tables_digest.hex(),
            "dtype": self.dtype,
            "batch_shape": [] if self.item_shape is None else [None, *self.item_shape],
            "broadcast_shape": list(self.broadcast_shape),
            "symbols_per_unit": self.symbols_per_unit,
            "metadata": dict(self.metadata),
        }
        if self.exact_dtype is not None:
            document["exact_dtype"] = self.exact_dtype
        if self.version == INDEXED_VERSION:
            document["index_checksums"] = self.index_checksums
            document["unit_numbers"] = self.unit_numbers
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")

    @classmethod
    def parse(cls, content: bytes) -> ArchiveHeader:
        """Reads the JSON of a HEAD chunk; unknown members are ignored."""
        with reading_header():
            document = json.loads(content)
            batch_shape = document["batch_shape"]
            return cls.of_document(
                document, shape_of(batch_shape[1:], "batch_shape") if batch_shape else None
            )

    @classmethod
    def of_document(cls, document: Mapping[str, Any], item_shape: tuple[int, ...] | None) -> ArchiveHeader:
        """The header that JSON members describe, within `reading_header`."""
        header = cls(
            str(document["model_id"]),
            bytes.fromhex(document["tables_digest"]),
            str(document["dtype"]),
            item_shape,
            shape_of(document["broadcast_shape"], "broadcast_shape"),
            None if document["symbols_per_unit"] is None else int(document["symbols_per_unit"]),
            dict(document["metadata"]),
            document.get("exact_dtype"),
            _flag(document, "index_checksums"),
            _flag(document, "unit_numbers"),
        )
        BOTTLENECK_DTYPES.index(header.dtype)
        if header.exact_dtype is not None:
            BIT_PATTERNS[header.exact_dtype]
        return header

    @property
    def version(self) -> int:
        """Version of the format that the archive needs."""
        if self.index_checksums or self.unit_numbers:
            return INDEXED_VERSION
        return PLAIN_VERSION if self.exact_dtype is None else EXACT_VERSION

    @property
    def units_per_item(self) -> int:
        """Coding units of one entry of the first batch axis."""
        return prod(self.item_shape or ())

    @property
    def units(self) -> int:
        """Coding units of a part of a bundle."""
        return (self.items or 0) * self.units_per_item


@dataclass(frozen=True, eq=False)
class BlockHeader:
    """The header of a block: its units.

    Attributes:
      first_unit: Number of the first unit in the file.
      lengths: uint32 [units], the length of each bit string in bytes.
      elements_per_unit: Elements of each unit; 0 in a block without exact elements.
      exact_elements: Number of exact elements of all units.
      unit_numbers: int64 [units], numbers of the units in the arrays that they were compressed in; None in an
        archive without them.
    """

    first_unit: int
    lengths: npt.NDArray[np.uint32]
    elements_per_unit: int = 0
    exact_elements: int = 0
    unit_numbers: npt.NDArray[np.int64] | None = None

    @property
    def kind(self) -> bytes:
        return EXACT_BLOCK if self.exact_elements else BLOCK

    @property
    def payload_bytes(self) -> int:
        return int(self.lengths.sum(dtype=np.uint64))

    def pack(self) -> bytes:
        # Lengths vary at random about a mean: there are runs of equal bytes to find, but no longer strings.
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
        varints = packed_varints(self.lengths.astype(np.uint64))
        if self.unit_numbers is not None:
            varints += packed_varints(runs_of(self.unit_numbers).reshape(-1).astype(np.uint64))
        packed = deflate.compress(varints) + deflate.flush()
        counts = _EXACT_COUNTS.pack(self.elements_per_unit, self.exact_elements)
        start = _BLOCK_HEADER.pack(self.first_unit, len(self.lengths))
        return start + (counts if self.exact_elements else b"") + packed

    @classmethod
    def parse_first_unit(cls, content: bytes) -> int:
        """Reads the number of the first unit alone."""
        if len(content) < _BLOCK_HEADER.size:
            raise LayoutError("has a block without its units")
        first_unit: int = _BLOCK_HEADER.unpack_from(content)[0]
        return first_unit

    @classmethod
    def parse(cls, kind: bytes, content: bytes, *, numbered: bool = False) -> BlockHeader:
        """Reads the header of a block, in memory bounded by MAX_BLOCK_UNITS whatever it holds.

        Args:
          kind: Kind of its chunk.
          content: Its bytes.
          numbered: Whether the archive has numbers of units.
        """
        try:
            first_unit, units = _BLOCK_HEADER.unpack_from(content)
            if not 0 < units <= MAX_BLOCK_UNITS:
                raise LayoutError(f"has a block of {units} coding units")
            start, elements_per_unit, exact_elements = _BLOCK_HEADER.size, 0, 0
            if kind == EXACT_BLOCK:
                elements_per_unit, exact_elements = _EXACT_COUNTS.unpack_from(content, start)
                start += _EXACT_COUNTS.size
                if not 0 < exact_elements <= units * elements_per_unit <= MAX_ELEMENTS:
                    raise LayoutError(f"has a block of {exact_elements} exact elements")
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            unit_bytes = _MAX_VARINT_BYTES + (2 * MAX_GROUPS if numbered else 0)
            packed = inflate.decompress(content[start:], unit_bytes * units + 1)
            if not inflate.eof or inflate.unused_data:
                raise LayoutError("has a block whose lengths do not end where they should")
        except (struct.error, zlib.error) as error:
            raise LayoutError(f"has a block whose lengths cannot be unpacked: {error}") from error
        values = unpacked_varints(packed, MAX_GROUPS if numbered else _MAX_VARINT_BYTES)
        lengths, numbers = _lengths(values[: units if numbered else None], units), None
        if numbered:
            numbers = _numbers(values[units:], units)
        return cls(first_unit, lengths, elements_per_unit, exact_elements, numbers)


@dataclass(frozen=True)
class IndexHeader:
    """The header of the index: the size of the whole archive.

    Attributes:
      units: Number of coding units.
      items: Length of the first batch axis, 1 without batch axes; in a bundle, the number of its parts.
    """

    units: int
    items: int

    def pack(self) -> bytes:
        return _INDEX_HEADER.pack(self.units, self.items)

    @classmethod
    def unpack(cls, content: bytes) -> IndexHeader:
        if len(content) != _INDEX_HEADER.size:
            raise LayoutError("has an index header of another size")
        return cls(*_INDEX_HEADER.unpack(content))

    @classmethod
    def parse(cls, content: bytes, header: ArchiveHeader) -> IndexHeader:
        """Reads the header of the index of an archive."""
        index = cls.unpack(content)
        units, items = index.units, index.items
        try:
            shape_from_message((items, *(header.item_shape or ())), "batch_shape")
        except InvalidTensorError as error:
            raise LayoutError(f"has an index of {items} items") from error
        if units != items * header.units_per_item or (header.item_shape is None and items != 1):
            raise LayoutError(f"has an index of {units} coding units in {items} items")
        return index


@contextmanager
def reading_header() -> Iterator[None]:
    """Turns whatever goes wrong with a document that is no header into a LayoutError."""
    try:
        yield
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        RecursionError,
        InvalidTensorError,
    ) as error:
        raise LayoutError(f"has a header that cannot be read ({error!r:.80})") from error


def shape_of(axes: Sequence[Any], field: str) -> tuple[int, ...]:
    return shape_from_message([int(axis) for axis in axes], field)


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r:.40}")
    return value


def _numbers(values: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """Numbers of units from their runs; each of `values` is below 2^63."""
    if len(values) % 2 or not len(values):
        raise LayoutError("has a block whose numbers of units do not end where they should")
    runs = values.astype(np.int64).reshape(-1, 2)
    firsts, counts = runs.T
    if not ((counts > 0) & (counts <= count)).all() or int(counts.sum()) != count:
        raise LayoutError(f"has a block with numbers of {int(counts.sum())} units; expected {count}")
    if int(firsts.max()) > np.iinfo(np.int64).max - count:
        raise LayoutError("has a number of a unit of more than 63 bits")
    return numbers_of(runs.tolist())


def _lengths(values: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.uint32]:
    if len(values) != count:
        raise LayoutError(f"has a block with {len(values)} lengths; expected {count}")
    if values.max() > 0xFFFFFFFF:
        raise LayoutError("has a length of more than 32 bits")
    return values.astype(np.uint32)
