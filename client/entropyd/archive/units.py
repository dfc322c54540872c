"""Bit strings of coding units, and what describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from entropyd.contract.by_value import ByValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from entropyd.v1 import types_pb2


@dataclass(frozen=True)
class RateReport:
    """What one `compress` call spent.

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
    """What archives store of a CompressedTensor.

    Attributes:
      model_id: Config hash of the model.
      tables_digest: SHA-256 of the model's coding tables, 32 bytes.
      dtype: Name of the array's dtype.
      batch_shape: Axes left of the coding units.
      broadcast_shape: Axes between batch_shape and the model's prior_shape.
      payload: All bit strings, one after the other in row-major order of the batch.
      lengths: uint32 [units], the length of each in bytes.
      blocks: Checksums of runs of coding units.
      rate: What compressing spent; None for a tensor that was loaded or sliced.
    """

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
    """The first units of a list, for a message."""
    shown = ", ".join(str(unit) for unit in units[:8])
    return shown if len(units) <= 8 else f"{shown} and {len(units) - 8} more"
