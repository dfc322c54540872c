"""Bit strings of coding units, and what describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from entropyd.contract.by_value import ByValue
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


def few(units: Sequence[int]) -> str:
    """The first units of a list, for messages."""
    shown = ", ".join(str(unit) for unit in units[:8])
    return shown if len(units) <= 8 else f"{shown} and {len(units) - 8} more"
