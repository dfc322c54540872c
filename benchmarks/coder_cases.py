"""What the coder benchmarks code: tables, values and symbols of normal priors, in numpy alone.

Owns the cases. It must not know which coder runs them. Invariant: a case is a function of its arguments, so
that every peer, in its own process, codes the same symbols with the same tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.kinds.universal_batched import dithered_rows
from entropyd_server.coding.rows import Rows, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

NOISE_LEVELS = 15
TAIL_MASS = 2**-8

Tables: TypeAlias = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]

_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True)
class Units:
    """Coding units of one shape.

    Attributes:
      units: Number of coding units.
      height, width, channels: Shape of each.
    """

    units: int
    height: int
    width: int
    channels: int = 192

    @property
    def unit_shape(self) -> Shape:
        """Dimensions of one coding unit."""
        return (self.height, self.width, self.channels)

    @property
    def unit_symbols(self) -> int:
        """Symbols of one coding unit."""
        return math.prod(self.unit_shape)

    @property
    def symbols(self) -> int:
        """Symbols of all coding units."""
        return self.units * self.unit_symbols


@dataclass(frozen=True)
class Case(Units):
    """Coding units under one prior, with TFC's universal quantization.

    Attributes:
      low_scale, high_scale: Standard deviations rise linearly from one to the other over the channels.
      precision: Base-2 logarithm of the total of every row.
    """

    low_scale: float = 0.1
    high_scale: float = 8.0
    precision: int = 12

    @cached_property
    def scale(self) -> npt.NDArray[np.float64]:
        """float64 [channels], standard deviations."""
        return np.linspace(self.low_scale, self.high_scale, self.channels)

    @cached_property
    def rows(self) -> Rows:
        """Rows and dither of TFC's universal model."""
        rows = dithered_rows(self.unit_shape, self.channels, NOISE_LEVELS, np.float32)
        return Rows(self.unit_shape, *rows)

    @cached_property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 [units, height, width, channels], drawn from the prior."""
        shape = (self.units, *self.unit_shape)
        return (np.random.default_rng(0).standard_normal(shape) * self.scale).astype(np.float32)

    @cached_property
    def integers(self) -> npt.NDArray[np.int32]:
        """int32 [units * symbols], the quantized values."""
        flat = self.values.reshape(self.units, -1)
        integers: npt.NDArray[np.int32] = np.rint(flat - self.rows.offsets).astype(np.int32).reshape(-1)
        return integers

    def tables(self, precision: int) -> Tables:
        """Quantized CDFs in TFC's flat layout, and the integer at which each row begins."""
        levels = range(NOISE_LEVELS)
        offsets = [(level + 1) / (NOISE_LEVELS + 1) - 0.5 for level in levels for _ in self.scale]
        return _normal_tables(np.tile(self.scale, NOISE_LEVELS), offsets, precision)


@dataclass(frozen=True)
class IndexedCase(Units):
    """Coding units whose every element has an index of a scale, any one with equal probability.

    Attributes:
      scales: Number of standard deviations, 256 at most, whose logarithms rise linearly.
      low_scale, high_scale: The first and the last of them.
      precision: Base-2 logarithm of the total of every row.
    """

    scales: int = 64
    low_scale: float = 0.11
    high_scale: float = 256.0
    precision: int = 12

    @cached_property
    def scale(self) -> npt.NDArray[np.float64]:
        """float64 [scales], standard deviations."""
        return np.geomspace(self.low_scale, self.high_scale, self.scales)

    @cached_property
    def indexes(self) -> npt.NDArray[np.uint8]:
        """uint8 [units, height, width, channels], as a client sends them."""
        shape = (self.units, *self.unit_shape)
        return np.random.default_rng(1).integers(0, self.scales, shape, np.uint8)

    @cached_property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 [units, height, width, channels], drawn with the scales of the indexes."""
        noise = np.random.default_rng(0).standard_normal(self.indexes.shape)
        return (noise * self.scale[self.indexes]).astype(np.float32)

    def tables(self, precision: int) -> Tables:
        """Quantized CDFs in TFC's flat layout, and the integer at which each row begins."""
        return _normal_tables(self.scale, [0.0] * self.scales, precision)


def _normal_tables(scales: npt.NDArray[np.float64], offsets: Sequence[float], precision: int) -> Tables:
    """A row of a normal density for each scale and quantization offset."""
    rows, cdf_offset = [], []
    for scale, offset in zip(scales, offsets, strict=True):
        reach = max(1, math.ceil(2.9 * scale))
        edges = np.arange(-reach - 0.5, reach + 1) + offset
        mass = np.diff(0.5 * (1 + _erf(edges / (scale * math.sqrt(2))).astype(np.float64)))
        rows.append(_row(np.append(mass, max(1 - mass.sum(), TAIL_MASS / 4)), precision))
        cdf_offset.append(-reach)
    return np.concatenate(rows).astype(np.int32), np.array(cdf_offset, np.int32)


def _row(mass: npt.NDArray[np.float64], precision: int) -> npt.NDArray[np.int64]:
    """One row: -precision, 0, ..., 2^precision, no interval empty."""
    total = 1 << precision
    counts = np.maximum(1, np.rint(mass / mass.sum() * total)).astype(np.int64)
    while (excess := int(counts.sum()) - total) != 0:
        largest = int(counts.argmax())
        counts[largest] -= min(excess, int(counts[largest]) - 1)
    return np.concatenate([[-precision, 0], np.cumsum(counts)])
