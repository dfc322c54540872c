"""Cuts the coding units that are to be written into blocks.

Invariant: the blocks do not depend on how the units were divided into tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.exact import ExactElements
from entropyd.archive.layout import INDEX_CHECKSUM, pack_chunk
from entropyd.archive.units import CompressedUnits, joined
from entropyd.contract.errors import InvalidRequestError
from entropyd.contract.integrity import BLOCK_BYTES, MAX_BLOCK_UNITS, checksum, make_blocks

# Bounds the memory of a block's exact elements where bit strings are short.
MAX_EXACT_BLOCK_ELEMENTS = 1 << 22


class PendingUnits:
    """The coding units that are not written yet, and their exact elements, of `exact_dtype` or none.

    The first of them has the number `first_unit` in the file.
    """

    def __init__(self, exact_dtype: str | None = None, first_unit: int = 0) -> None:
        self._exact_dtype = exact_dtype
        self._first_unit = first_unit
        self._payload = b""
        self._lengths = np.empty(0, np.uint32)
        # None in an archive without them.
        self._indexes_crc32c: npt.NDArray[np.uint32] | None = None
        self._unit_numbers: npt.NDArray[np.int64] | None = None
        # Positions count from the first pending unit; None where there are none.
        self._exact: ExactElements | None = None
        self._elements_per_unit = 0  # 0 until the first exact elements

    @property
    def fill_a_block(self) -> bool:
        """Whether there are more than fit into one block."""
        return len(self._payload) > BLOCK_BYTES or len(self._lengths) > MAX_BLOCK_UNITS

    def append(self, tensor: CompressedUnits, exact: ExactElements | None) -> None:
        """Adds a tensor and the exact elements of its array; errors as `ArchiveWriter.append`."""
        if exact is not None and len(exact):
            self._check(exact, len(tensor.lengths))
            begin = len(self._lengths) * self._elements_per_unit
            parts = [(begin, exact)] if self._exact is None else [(0, self._exact), (begin, exact)]
            self._exact = ExactElements.joined(parts, exact.dtype, begin + exact.elements)
        self._payload = b"".join((self._payload, tensor.payload))
        first = not len(self._lengths)
        self._lengths = np.concatenate((self._lengths, tensor.lengths))
        if len(tensor.lengths):
            self._indexes_crc32c = _extended(self._indexes_crc32c, tensor.indexes_crc32c, first=first)
            self._unit_numbers = _extended(self._unit_numbers, tensor.unit_numbers, first=first)

    def take_blocks(self, *, keep_last: bool) -> Iterator[tuple[int, bytes]]:
        """Removes blocks, yielding first unit and chunk of each; the last may stay, as it may still grow."""
        ends = np.concatenate(([0], np.cumsum(self._lengths, dtype=np.int64)))
        blocks = make_blocks(self._payload, self._lengths)
        taken = 0
        for block in blocks[:-1] if keep_last else blocks:
            for units in self._split(taken, taken + block.units):
                payload = self._payload[int(ends[units.start]) : int(ends[units.stop])]
                yield self._first_unit + units.start, self._chunk(units, payload)
            taken += block.units
        if self._exact is not None:
            self._exact = self._exact_of(slice(taken, len(self._lengths)))
        self._payload = self._payload[int(ends[taken]) :]
        self._lengths = self._lengths[taken:]
        rest = slice(taken, None)
        self._indexes_crc32c = _part(self._indexes_crc32c, rest)
        self._unit_numbers = _part(self._unit_numbers, rest)
        self._first_unit += taken

    def _split(self, first: int, last: int) -> list[slice]:
        """Runs of units within MAX_EXACT_BLOCK_ELEMENTS; one run if they have no exact elements."""
        step = last - first
        if self._exact_of(slice(first, last)) is not None:
            step = max(1, MAX_EXACT_BLOCK_ELEMENTS // self._elements_per_unit)
        return [slice(start, min(start + step, last)) for start in range(first, last, step)]

    def _chunk(self, units: slice, payload: bytes) -> bytes:
        first_unit, lengths = self._first_unit + units.start, self._lengths[units]
        exact, numbers = self._exact_of(units), _part(self._unit_numbers, units)
        checksums = _part(self._indexes_crc32c, units)
        data = payload if checksums is None else payload + checksums.astype(INDEX_CHECKSUM).tobytes()
        if exact is None:
            header = BlockHeader(first_unit, lengths, unit_numbers=numbers)
        else:
            header = BlockHeader(first_unit, lengths, self._elements_per_unit, len(exact), numbers)
            data += exact.pack()
        return pack_chunk(header.kind, header.pack(), data, checksum(data, lengths))

    def _exact_of(self, units: slice) -> ExactElements | None:
        """Exact elements of some pending units; None if they have none."""
        if self._exact is None:
            return None
        part = self._exact.part(units.start * self._elements_per_unit, units.stop * self._elements_per_unit)
        return part if len(part) else None

    def _check(self, exact: ExactElements, units: int) -> None:
        if exact.dtype != self._exact_dtype:
            expected = self._exact_dtype or "none, as the archive has no exact_dtype"
            found = f"are of dtype {exact.dtype}; expected {expected}"
            raise InvalidRequestError.at("the exact elements", found)
        per_unit = self._elements_per_unit or (exact.elements // units if units else 0)
        if not per_unit or exact.elements != per_unit * units:
            expected = f"{per_unit} in each" if per_unit else "as many in each"
            found = f"are of an array of {exact.elements} elements in {units} coding units"
            raise InvalidRequestError.at("the exact elements", f"{found}; expected {expected}")
        self._elements_per_unit = per_unit


def _part(of_units: npt.NDArray[Any] | None, units: slice) -> npt.NDArray[Any] | None:
    return None if of_units is None else of_units[units]


def _extended(
    pending: npt.NDArray[Any] | None, following: npt.NDArray[Any] | None, *, first: bool
) -> npt.NDArray[Any] | None:
    return following if first else joined((pending, following))
