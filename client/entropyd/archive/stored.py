"""The stored coding units of an archive, block by block.

Invariant: only the blocks that hold selected units are read, and each is checked whenever it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from entropyd.archive.blocks import Index, StoredBlock, read_block, read_block_header
from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.source import Source
from entropyd.contract.integrity import checksum, make_blocks
from entropyd.v1 import types_pb2


class StoredUnits:
    """The coding units that an index finds in a source.

    Args:
      source: Where the blocks are.
      index: Where each block begins.
      exact_dtype: Name of the dtype of exact elements; None where there can be none.
    """

    def __init__(self, source: Source, index: Index, exact_dtype: str | None) -> None:
        self._source = source
        self._index = index
        self._exact_dtype = exact_dtype
        # Adjacent units are often read one by one.
        self._latest: StoredBlock | None = None

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._index.entries)

    def block(self, number: int) -> StoredBlock:
        """Reads a block, which may be damaged."""
        return read_block(self._source, self._index.place(number), self._exact_dtype)

    def block_header(self, number: int) -> BlockHeader:
        """Reads the header of a block.

        Raises:
          LayoutError: If it is damaged or lost.
        """
        return read_block_header(self._source, self._index.place(number))[1]

    def parts(self, units: npt.NDArray[np.int64]) -> Iterator[StoredBlock]:
        """Reads some units, in their order, as parts of stored blocks."""
        cuts = np.flatnonzero(np.diff(units) != 1) + 1
        for run in np.split(units, cuts):
            unit, end = (int(run[0]), int(run[-1]) + 1) if len(run) else (0, 0)
            while unit < end:
                block = self._block_with(unit)
                stop = min(end, block.end_unit)
                yield block.part(unit, stop)
                unit = stop

    def _block_with(self, unit: int) -> StoredBlock:
        latest = self._latest
        if latest is not None and latest.first_unit <= unit < latest.end_unit:
            return latest
        self._latest = block = self.block(self._index.block_of(unit))
        return block


def checksums(parts: Sequence[StoredBlock]) -> list[types_pb2.Block]:
    """Checksums of the parts, one after the other; those of damaged ones do not match."""
    blocks: list[types_pb2.Block] = []
    for damaged, group in groupby(parts, lambda part: part.damage is not None):
        run = list(group)
        payload = b"".join(part.payload for part in run)
        lengths = np.concatenate([part.lengths for part in run])
        if damaged:
            wrong = checksum(payload, lengths) ^ 0xFFFFFFFF
            blocks.append(types_pb2.Block(units=len(lengths), crc32c=wrong))
        else:
            blocks += make_blocks(payload, lengths)
    return blocks
