"""The operations that a batcher runs on the units of several callers at once.

Invariant: a caller's result is what coding its units alone would give, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.codec import Codec, DecodedUnits, EncodedUnits
from entropyd_server.coding.rows import Rows


class Strings(NamedTuple):
    """Bit strings of coding units.

    Attributes:
      payload: All strings, one directly after the other.
      lengths: uint32 [units], bytes of each.
    """

    payload: bytes
    lengths: npt.NDArray[np.uint32]

    def of_units(self, start: int, stop: int) -> Strings:
        if start == 0 and stop == len(self.lengths):
            return self
        first, last = self.lengths[:start].sum(dtype=np.int64), self.lengths[:stop].sum(dtype=np.int64)
        return Strings(self.payload[first:last], self.lengths[start:stop])


class CompressWork(NamedTuple):
    """Units to compress: values, or symbols, [units, symbols] as `Codec.encode` takes them."""

    codec: Codec
    rows: Rows
    values: npt.NDArray[Any]


class DecompressWork(NamedTuple):
    """Units to decompress, to values or to `symbols`."""

    codec: Codec
    rows: Rows
    strings: Strings
    symbols: bool = False


class Compress:
    """Encodes units, part by part: joining parts would copy arrays and gain nothing."""

    name = "compress"

    def run(self, parts: Sequence[tuple[CompressWork, int, int]]) -> list[EncodedUnits]:
        return [
            work.codec.encode(work.values[start:stop], work.rows.of_units(start, stop))
            for work, start, stop in parts
        ]


class Decompress:
    """Decodes units, all that can share a kernel call in one, where they are interleaved."""

    name = "decompress"

    def run(self, parts: Sequence[tuple[DecompressWork, int, int]]) -> list[DecodedUnits]:
        if len(parts) == 1:
            return [_decode_part(*parts[0])]
        decoded = []
        for _, same in groupby(parts, lambda part: _joinable(part[0])):
            decoded += _decode_joined(list(same))
        return decoded


COMPRESS, DECOMPRESS = Compress(), Decompress()


def _joinable(work: DecompressWork) -> tuple[int, int, bool]:
    """Equal for works that one kernel call decodes: those that share rows, or have rows of one length."""
    return id(work.codec), work.rows.unit_stride or -id(work.rows), work.symbols


def _decode_part(work: DecompressWork, start: int, stop: int) -> DecodedUnits:
    payload, lengths = work.strings.of_units(start, stop)
    return work.codec.decode(payload, lengths, work.rows.of_units(start, stop), symbols=work.symbols)


def _decode_joined(parts: Sequence[tuple[DecompressWork, int, int]]) -> list[DecodedUnits]:
    if len(parts) == 1:
        return [_decode_part(*parts[0])]
    codec = parts[0][0].codec
    strings = [work.strings.of_units(start, stop) for work, start, stop in parts]
    rows = [work.rows.of_units(start, stop) for work, start, stop in parts]
    decoded = codec.decode(
        b"".join([part.payload for part in strings]),
        np.concatenate([part.lengths for part in strings]),
        Rows.join(rows) if rows[0].unit_stride else rows[0],
        symbols=parts[0][0].symbols,
    )
    ends = np.cumsum([len(part.lengths) for part in strings]).tolist()
    return [
        DecodedUnits(decoded.values[start:stop], decoded.statuses[start:stop], decoded.positions[start:stop])
        for start, stop in pairwise([0, *ends])
    ]
