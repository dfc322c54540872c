"""Cuts the coding units that are to be written into blocks.

Invariant: the blocks do not depend on how the units were divided into tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.exact import ExactElements
from entropyd.archive.layout import pack_chunk
from entropyd.archive.units import CompressedUnits
from entropyd.contract.errors import InvalidRequestError
from entropyd.contract.integrity import BLOCK_BYTES, MAX_BLOCK_UNITS, checksum, make_blocks

# Bounds the memory of a block's exact elements where bit strings are short.
MAX_EXACT_BLOCK_ELEMENTS = 1 << 22


class PendingUnits:
    """The coding units that are not written yet, and their exact elements, of `exact_dtype` or none."""

    def __init__(self, exact_dtype: str | None) -> None:
        self._exact_dtype = exact_dtype
        self._first_unit = 0
        self._payload = b""
        self._lengths = np.empty(0, np.uint32)
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
        self._lengths = np.concatenate((self._lengths, tensor.lengths))

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
        self._first_unit += taken

    def _split(self, first: int, last: int) -> list[slice]:
        """Runs of units within MAX_EXACT_BLOCK_ELEMENTS; one run if they have no exact elements."""
        step = last - first
        if self._exact_of(slice(first, last)) is not None:
            step = max(1, MAX_EXACT_BLOCK_ELEMENTS // self._elements_per_unit)
        return [slice(start, min(start + step, last)) for start in range(first, last, step)]

    def _chunk(self, units: slice, payload: bytes) -> bytes:
        first_unit, lengths = self._first_unit + units.start, self._lengths[units]
        exact = self._exact_of(units)
        if exact is None:
            header, data = BlockHeader(first_unit, lengths), payload
        else:
            header = BlockHeader(first_unit, lengths, self._elements_per_unit, len(exact))
            data = payload + exact.pack()
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
