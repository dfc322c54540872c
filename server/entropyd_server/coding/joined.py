"""Strings of several callers through one kernel call, and the results of a caller's pieces as one.

Owns joining and splitting. It must not know who the callers are. Invariant: what a caller gets is what coding
its units alone would give, whoever else is in the batch. Only decoding is joined, where units of several
callers overlap; encoding gains nothing from it and would copy the arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from entropyd_server.coding.codec import DecodedUnits, EncodedUnits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from entropyd_server.coding.codec import Codec
    from entropyd_server.coding.plan import CodingPlan


class Strings(NamedTuple):
    """Bit strings of coding units.

    Attributes:
      payload: All strings, one directly after the other.
      lengths: uint32 [units], bytes of each.
    """

    payload: bytes
    lengths: npt.NDArray[np.uint32]

    def cut(self, start: int, stop: int) -> Strings:
        """The strings of units [start, stop)."""
        if start == 0 and stop == len(self.lengths):
            return self
        first, last = self.lengths[:start].sum(dtype=np.int64), self.lengths[:stop].sum(dtype=np.int64)
        return Strings(self.payload[first:last], self.lengths[start:stop])


def decode_joined(codec: Codec, plan: CodingPlan, parts: Sequence[Strings]) -> list[DecodedUnits]:
    """Decodes several callers' strings of one plan together; one result for each caller."""
    if len(parts) == 1:
        return [codec.decode(parts[0].payload, parts[0].lengths, plan)]
    lengths = np.concatenate([part.lengths for part in parts])
    decoded = codec.decode(b"".join([part.payload for part in parts]), lengths, plan)
    return [
        DecodedUnits(decoded.values[start:stop], decoded.statuses[start:stop], decoded.positions[start:stop])
        for start, stop in _bounds([len(part.lengths) for part in parts])
    ]


def encoded_whole(pieces: Sequence[EncodedUnits]) -> EncodedUnits:
    """One result of the pieces that a caller's units were cut into, in order."""
    if len(pieces) == 1:
        return pieces[0]
    return EncodedUnits(
        b"".join([piece.payload for piece in pieces]),
        np.concatenate([piece.lengths for piece in pieces]),
        np.concatenate([piece.statuses for piece in pieces]),
        np.concatenate([piece.positions for piece in pieces]),
        sum(piece.escapes for piece in pieces),
    )


def decoded_whole(pieces: Sequence[DecodedUnits]) -> DecodedUnits:
    """One result of the pieces that a caller's units were cut into, in order."""
    if len(pieces) == 1:
        return pieces[0]
    return DecodedUnits(
        np.concatenate([piece.values for piece in pieces]),
        np.concatenate([piece.statuses for piece in pieces]),
        np.concatenate([piece.positions for piece in pieces]),
    )


def _bounds(counts: Sequence[int]) -> list[tuple[int, int]]:
    ends = np.cumsum(counts).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))
