"""The integer coding tables of one model, and what kernels derive from them.

Invariant: a CodingTables is legal, so kernels use the indexes in it without checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.symbols import narrowest
from entropyd.contract.table_checks import (
    int32_vector,
    offset_problems,
    quantization_problems,
    row_problems,
)
from entropyd.contract.tables import RawTables
from entropyd_server.coding.rans64_tables import Rans64Tables
from entropyd_server.errors import limit_exceeded
from entropyd_server.kernels.lookup import fill_hints
from entropyd_server.kernels.range_coder import ROW_FIELDS, Row
from entropyd_server.kernels.single_decoder import INTERVAL

# Up to so many intervals a row has twice as many hints: more of them are right, but beyond this more of the
# tables leaves the second-level cache than that is worth (docs/notes/kernels.md).
FINE_HINTS = 64
# Beyond so many a row has a quarter of that, for the same reason, unless the tables are small.
_COARSE_HINTS = 1024
# Tables of so many intervals or fewer, 128 KiB, are small: they stay in the second-level cache.
SMALL_INTERVALS = 1 << 14
# An escape is followed by at least one bit of magnitude and one of sign.
_ESCAPE_BITS = 2
# Intervals that decoding prefetches: most rows have no more.
_LIKELY_INTERVALS = 32


@dataclass(frozen=True, eq=False)
class CodingTables:
    """Quantized CDFs and CDF offsets, checked, with what kernels derive from them.

    Attributes:
      cdf: int32 [length], read-only, TFC's flat layout: every row is -precision, 0, ..., 2^precision,
        where the minus says that the last interval is the escape symbol. Copies of 2^precision after the
        first belong to no interval, as in TFC (`ScanCDF` in cc/kernels/range_coder_kernels.cc).
      cdf_offset: int32 [rows], read-only: the smallest integer that a row covers.
      precision: Base-2 logarithm of the total of every row, 1 to 16.
      quantization_offset: float32 or float64 [rows], read-only, finite: what is subtracted before a symbol of
        each row is rounded; None without any.
      digest: See `RawTables.digest`.
      rows: int32 [rows, 8], read-only: one record per row, columns as in `kernels.range_coder.Row`.
      bounds: uint16 [2 * intervals], read-only: first and last cumulative probability of every interval, as
        in `kernels.range_coder`.
      hints: uint8 or, if a row has more than 256 intervals, uint16 [...], read-only: for each row and equal
        part of it, a power of two of them, the interval in the row that holds most of that part.
      intervals: `kernels.single_decoder.INTERVAL` [intervals], read-only: what `bounds` says, for decoding.
    """

    cdf: npt.NDArray[np.int32]
    cdf_offset: npt.NDArray[np.int32]
    quantization_offset: npt.NDArray[Any] | None
    precision: int
    digest: bytes
    rows: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.uint16]
    hints: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    intervals: npt.NDArray[np.void]

    @property
    def nbytes(self) -> int:
        derived = (self.rows, self.bounds, self.hints, self.intervals, self.near)
        rans64 = self.rans64.nbytes if "rans64" in vars(self) else 0
        return self.table_bytes + sum(array.nbytes for array in derived) + rans64

    @cached_property
    def near(self) -> npt.NDArray[np.void]:
        """INTERVAL [intervals + hints], read-only: `intervals`, then those of hints; empty unless small."""
        if len(self.intervals) > SMALL_INTERVALS:
            return self.intervals[:0]
        hints_of_row = np.diff(self.rows[:, Row.HINT_START], append=len(self.hints))
        hinted = np.repeat(self.rows[:, Row.START], hints_of_row) + self.hints.astype(np.int64)
        near: npt.NDArray[np.void] = np.concatenate([self.intervals, self.intervals[hinted]])
        near.flags.writeable = False
        return near

    @cached_property
    def rans64(self) -> Rans64Tables:
        """What rANS kernels take besides, derived when it is first needed; for tables of precision 16."""
        return Rans64Tables.of(self.rows, self.bounds)

    @cached_property
    def symbol_dtype(self) -> np.dtype[Any]:
        """The narrowest of int8, int16 and int32 that holds the symbols of all intervals but escapes."""
        lowest = self.rows[:, Row.CDF_OFFSET].astype(np.int64)
        highest = lowest + np.maximum(self.rows[:, Row.ESCAPE] - 1, 0)
        return narrowest(np.array([lowest.min(), highest.max()])).dtype

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables as they are stored."""
        return sum(array.nbytes for array in self.raw.by_name().values())

    @property
    def raw(self) -> RawTables:
        return RawTables(self.cdf, self.cdf_offset, self.quantization_offset)

    @classmethod
    def parse(
        cls,
        cdf: npt.ArrayLike,
        cdf_offset: npt.ArrayLike,
        quantization_offset: npt.NDArray[Any] | None = None,
        *,
        max_bytes: int | None = None,
    ) -> CodingTables:
        """Checks tables in TFC's layout and prepares them for coding.

        The arrays are as the attributes, of any integers. `max_bytes`, the server's max_model_bytes, counts
        integers as int32.

        Raises:
          InvalidConfigError: Names every row, element and value that is wrong, up to a few of each kind.
          LimitExceededError: If they are larger than `max_bytes`.
        """
        if max_bytes is not None and (found := _bytes(cdf, cdf_offset, quantization_offset)) > max_bytes:
            raise limit_exceeded(f"coding tables of {found} bytes exceed", "max_model_bytes", max_bytes)
        cdf_values, cdf_problems = int32_vector("cdf", cdf)
        offset_values, problems_of_offset = int32_vector("cdf_offset", cdf_offset)
        problems = cdf_problems + problems_of_offset
        if not cdf_problems:
            problems += row_problems(cdf_values)
        if not problems:
            problems += offset_problems(int(np.count_nonzero(cdf_values < 0)), offset_values)
            problems += quantization_problems(quantization_offset, len(offset_values))
        if problems:
            raise InvalidConfigError.of(problems)

        precision = -int(cdf_values[0])
        begins = np.flatnonzero((cdf_values >= 0) & (cdf_values < 1 << precision))
        bounds = _bounds(cdf_values, begins)
        rows, hints = _lookup(cdf_values, offset_values, bounds, precision)
        intervals = _intervals(cdf_values, begins, rows, precision)
        if quantization_offset is not None:
            quantization_offset = np.array(quantization_offset)
            quantization_offset.flags.writeable = False
        for array in (cdf_values, offset_values, rows, bounds, hints, intervals):
            array.flags.writeable = False
        raw = RawTables(cdf_values, offset_values, quantization_offset)
        return cls(*raw, precision, raw.digest, rows, bounds, hints, intervals)


def _bytes(cdf: npt.ArrayLike, cdf_offset: npt.ArrayLike, floats: npt.NDArray[Any] | None) -> int:
    return 4 * (np.size(cdf) + np.size(cdf_offset)) + (0 if floats is None else floats.nbytes)


def _bounds(cdf: npt.NDArray[np.int32], begins: npt.NDArray[np.intp]) -> npt.NDArray[np.uint16]:
    bounds = np.stack([cdf[begins], cdf[begins + 1] - 1], axis=1)
    bounds[bounds[:, 1] < 0] = (1, 0)
    vector: npt.NDArray[np.uint16] = bounds.astype(np.uint16).reshape(-1)
    return vector


def _intervals(
    cdf: npt.NDArray[np.int32], begins: npt.NDArray[np.intp], rows: npt.NDArray[np.int32], precision: int
) -> npt.NDArray[np.void]:
    lower, upper = (cdf[edge] << (16 - precision) for edge in (begins, begins + 1))
    intervals = np.empty(len(begins), INTERVAL)
    intervals["lower"] = lower
    intervals["last"] = np.maximum(upper - 1, 0)
    intervals["reciprocal"] = np.uint32(2**32 - 1) // np.maximum(upper - lower, 1).astype(np.uint32)
    intervals["reciprocal"][rows[:, Row.START] + rows[:, Row.ESCAPE]] = 0
    return intervals


def _lookup(
    cdf: npt.NDArray[np.int32],
    cdf_offset: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.uint16],
    precision: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Derives row records and hints.

    A hint is for one of the equal parts of a row, at least 2: of n intervals, 2n to 4n parts up to FINE_HINTS
    intervals, n to 2n beyond, n/4 to n/2 beyond _COARSE_HINTS in tables that are not small, fewer if the
    precision does not allow as many.
    On average it is wrong for a quarter of a part in which an interval begins.
    """
    heads = np.flatnonzero(cdf < 0)
    tops = np.add.reduceat((cdf == 1 << precision).astype(np.int64), heads)
    intervals = np.diff(heads, append=len(cdf)) - 1 - tops
    bits = np.ceil(np.log2(intervals)).astype(np.int64)
    coarse = (intervals > _COARSE_HINTS) & (intervals.sum() > SMALL_INTERVALS)
    hint_bits = np.clip(bits + (intervals <= FINE_HINTS) - 2 * coarse, 1, precision)

    rows = np.zeros((len(heads), ROW_FIELDS), np.int32)
    rows[:, Row.START] = np.cumsum(intervals) - intervals
    rows[:, Row.ESCAPE] = intervals - 1
    rows[:, Row.CDF_OFFSET] = cdf_offset
    rows[:, Row.HINT_START] = np.cumsum(1 << hint_bits) - (1 << hint_bits)
    rows[:, Row.HINT_SHIFT] = 64 - hint_bits
    hint_type = np.uint8 if (intervals <= 1 << 8).all() else np.uint16
    hints: npt.NDArray[Any] = np.empty(int((1 << hint_bits).sum()), hint_type)
    fill_hints(rows, bounds, precision, hints)
    middle = hints[rows[:, Row.HINT_START] + (1 << hint_bits >> 1)].astype(np.int64)
    rows[:, Row.LIKELY] = np.maximum(middle - _LIKELY_INTERVALS // 2, 0)
    return rows, hints


def row_bits(tables: CodingTables) -> npt.NDArray[np.float64]:
    """float64 [rows], the expected bits of a symbol drawn from each row: entropy, and the shortest escape."""
    total = 1 << tables.precision
    cdf = tables.cdf
    # One logarithm for each possible width, as there may be millions of intervals.
    probability = np.arange(total + 1) / total
    cost = np.zeros(total + 1)
    cost[1:] = -probability[1:] * np.log2(probability[1:])
    # Where a row begins, neighbours are of two rows or head and first value: 0, which costs nothing.
    widths = np.where(cdf[:-1] >= 0, np.maximum(np.diff(cdf), 0), 0)
    heads = np.flatnonzero(cdf < 0)
    entropy: npt.NDArray[np.float64] = np.add.reduceat(cost[widths], heads)
    first, last = tables.bounds[0::2].astype(np.int64), tables.bounds[1::2].astype(np.int64)
    escapes = tables.rows[:, Row.START].astype(np.int64) + tables.rows[:, Row.ESCAPE]
    escape_widths = np.maximum(last[escapes] - first[escapes] + 1, 0)
    entropy += _ESCAPE_BITS * probability[escape_widths]
    return entropy
