"""Bit strings of coding units, and what describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.by_value import ByValue
from entropyd.contract.errors import InvalidRequestError
from entropyd.v1 import types_pb2


@dataclass(frozen=True)
class RateReport:
    """Symbols and bytes of one `compress` call.

    Attributes:
      symbols: Symbols coded.
      escaped_symbols: Symbols outside their row; many of them mean that the prior has drifted from the data.
      uncompressed_bytes: Bytes of the bottleneck.
      compressed_bytes: Bytes of all bit strings.
    """

    symbols: int
    escaped_symbols: int
    uncompressed_bytes: int
    compressed_bytes: int

    @property
    def bits_per_symbol(self) -> float:
        """Bits of the bit strings per symbol; 0 without symbols."""
        return 8 * self.compressed_bytes / self.symbols if self.symbols else 0.0


@dataclass(frozen=True, eq=False)
class CompressedUnits(ByValue):
    """The fields of a `CompressedTensor`, which describes them, without what needs files or messages."""

    model_id: str
    tables_digest: bytes
    dtype: str
    batch_shape: tuple[int, ...]
    broadcast_shape: tuple[int, ...]
    payload: bytes = field(repr=False)
    lengths: npt.NDArray[np.uint32] = field(repr=False)
    blocks: Sequence[types_pb2.Block] = field(repr=False)
    rate: RateReport | None = None
    indexes_crc32c: npt.NDArray[np.uint32] | None = field(default=None, repr=False)
    unit_numbers: npt.NDArray[np.int64] | None = field(default=None, repr=False)


def joined(parts: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    """What the units of several tensors, at least one, have; None if one of them has nothing."""
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found and len(found) == len(parts) else None


def runs_of(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers as runs of consecutive ones: int64 [runs, 2], first number and count of each."""
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 2) != 1)
    counts = np.diff(starts, append=len(numbers))
    return np.stack([numbers[starts], counts], axis=1)


def numbers_of(runs: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """The numbers that `runs_of` made runs of."""
    return np.concatenate(
        [np.empty(0, np.int64), *(np.arange(first, first + count, dtype=np.int64) for first, count in runs)]
    )


def check_on_error(found: Any) -> None:
    """Refuses what is no policy for damaged units.

    Raises:
      InvalidRequestError: Names it.
    """
    if found not in ("raise", "skip"):
        raise InvalidRequestError.at("on_error", f"is {found!r:.80}; expected 'raise' or 'skip'")


def few(units: Sequence[int]) -> str:
    """The first units of a list, for messages."""
    shown = ", ".join(str(unit) for unit in units[:8])
    return shown if len(units) <= 8 else f"{shown} and {len(units) - 8} more"
