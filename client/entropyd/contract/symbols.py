"""Symbols: the integers that are coded, of an array and back.

What a server does with floats, in the same arithmetic: symbol = rint(value - offset), ties to even, in the
bottleneck's `coding_dtype`; value = symbol + offset. Invariant: symbols and values are the same bits as the
server's, for every element that int32 holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from entropyd.contract.dtypes import Array, coding_dtype, element_dtype, narrowed, widened

SYMBOL_DTYPES = ("int8", "int16", "int32")
# Elements that are converted at once, which stay in the second-level cache.
_BLOCK = 1 << 16
_LIMIT = 2.0**31
_BOUNDS = {np.dtype(name): (int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in SYMBOL_DTYPES}


@dataclass(frozen=True, eq=False)
class Quantizer:
    """The arithmetic between the values and the symbols of coding units.

    Attributes:
      dtype: Name of the bottleneck's dtype.
      offsets: Quantization offsets in the dtype's `coding_dtype`: [symbols] for each unit, or [units,
        symbols]; None without any.
      rounds_offsets: Whether what is less or plus an offset is rounded to a dtype of 16 bits, as TFC does
        where each row has an offset. A dither is subtracted and added before that.
    """

    dtype: str
    offsets: Array | None = None
    rounds_offsets: bool = False

    def symbols(self, values: Array) -> Array | None:
        """The symbols of values [units, symbols] in `element_dtype`, in the narrowest dtype that holds them.

        Returns:
          int8, int16 or int32 [units, symbols]; None if int32 does not hold all of them.
        """
        symbols = np.empty(values.shape, np.int8)
        with np.errstate(over="ignore", invalid="ignore"):
            for block in _blocks(*values.shape):
                rounded = np.rint(self._less_offset(widened(values[block], self.dtype), block))
                lowest, highest = rounded.min(), rounded.max()
                if not (lowest > -_LIMIT and highest < _LIMIT):  # NaN is neither
                    return None
                if not _holds(symbols.dtype, lowest, highest):
                    symbols = symbols.astype(_narrowest_dtype(lowest, highest))
                symbols[block] = rounded
        return symbols

    def values(self, symbols: Array) -> Array:
        """The values of symbols [units, symbols], in `element_dtype`."""
        values = np.empty(symbols.shape, element_dtype(self.dtype))
        for block in _blocks(*symbols.shape):
            wide = symbols[block].astype(coding_dtype(self.dtype))
            values[block] = narrowed(self._plus_offset(wide, block), self.dtype)
        return values

    def _less_offset(self, wide: Array, block: tuple[slice, slice]) -> Array:
        if self.offsets is None:
            return wide
        less = wide - self._of(self.offsets, block)
        return widened(narrowed(less, self.dtype), self.dtype) if self.rounds_offsets else less

    def _plus_offset(self, wide: Array, block: tuple[slice, slice]) -> Array:
        if self.offsets is None:
            return wide
        if self.rounds_offsets:
            wide = widened(narrowed(wide, self.dtype), self.dtype)
        return wide + self._of(self.offsets, block)

    @staticmethod
    def _of(offsets: Array, block: tuple[slice, slice]) -> Array:
        return offsets[block[1]] if offsets.ndim == 1 else offsets[block]


def _blocks(units: int, symbols: int) -> Iterator[tuple[slice, slice]]:
    """Cuts [units, symbols] into pieces: several units, or parts of one."""
    if not units * symbols:
        return
    step = max(_BLOCK // symbols, 1)
    for unit in range(0, units, step):
        for symbol in range(0, symbols, _BLOCK):
            yield slice(unit, unit + step), slice(symbol, symbol + _BLOCK)


def narrowest(symbols: Array) -> Array:
    """Symbols in the narrowest dtype that holds them; they are integers of 32 bits at most."""
    if not symbols.size or symbols.dtype == np.int8:
        return symbols.astype(np.int8, copy=False)
    return symbols.astype(_narrowest_dtype(symbols.min(), symbols.max()), copy=False)


def _narrowest_dtype(lowest: float, highest: float) -> np.dtype[Any]:
    return next(dtype for dtype in _BOUNDS if _holds(dtype, lowest, highest))


def _holds(dtype: np.dtype[Any], lowest: float, highest: float) -> bool:
    least, most = _BOUNDS[dtype]
    return bool(least <= lowest and highest <= most)
