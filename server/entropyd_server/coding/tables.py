"""The integer coding tables of one model.

Owns parsing, checking and digesting quantized CDFs, and the lookup structure that decoding derives from
them. It must not know how the tables were made, nor anything in floating point. Invariant: a CodingTables
that exists is legal, so kernels take any index into it that it hands out without checking again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.errors import InvalidConfigError, LimitExceededError, Violation
from entropyd.contract.tables import RawTables
from entropyd_server.kernels.lone_decoder import INTERVAL, LIKELY_INTERVALS
from entropyd_server.kernels.lookup import fill_lookup
from entropyd_server.kernels.range_coder import ROW_FIELDS, Row

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_PRECISION = 16
# Within this bound symbol + cdf_offset of every legal symbol fits int32, as TFC computes it.
MAX_CDF_OFFSET = 2**29
# A row that a density can fill has at most one interval per probability step of 2^-16.
MAX_ROW_INTERVALS = 2**16
# Keeps every position in the tables and in the lookup below 2^31.
MAX_CDF_LENGTH = 2**27
# Up to so many intervals a row has twice as many hints: more of them are right, but beyond this more of the
# tables leaves the second-level cache than that is worth (docs/performance.md).
FINE_HINTS = 64
_MAX_REPORTED = 8


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
      buckets: uint16 [...], read-only: for each row and bucket of 2^BUCKET_SHIFT cumulative probabilities,
        the interval in the row that holds the first of them.
      hints: uint8 or, if a row has more than 256 intervals, uint16 [...], read-only: for each row and equal
        part of it, a power of two of them, the interval in the row that holds most of that part.
      intervals: `kernels.lone_decoder.INTERVAL` [intervals], read-only: what `bounds` says, for decoding.
    """

    cdf: npt.NDArray[np.int32]
    cdf_offset: npt.NDArray[np.int32]
    quantization_offset: npt.NDArray[Any] | None
    precision: int
    digest: bytes
    rows: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.uint16]
    buckets: npt.NDArray[np.uint16]
    hints: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    intervals: npt.NDArray[np.void]

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        derived = (self.rows, self.bounds, self.buckets, self.hints, self.intervals)
        return self.table_bytes + sum(array.nbytes for array in derived)

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables alone, as they are stored."""
        return sum(array.nbytes for array in self.raw.by_name().values())

    @property
    def raw(self) -> RawTables:
        """The tables as they travel."""
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

        Args:
          cdf: Integers [length], as the attribute.
          cdf_offset: Integers [rows], as the attribute.
          quantization_offset: As the attribute.
          max_bytes: The server's max_model_bytes, most bytes of all, integers as int32; None for any number.

        Raises:
          InvalidConfigError: Names every row, element and value that is wrong, up to a few of each kind.
          LimitExceededError: If they are larger than `max_bytes`.
        """
        if max_bytes is not None and (found := _bytes(cdf, cdf_offset, quantization_offset)) > max_bytes:
            raise LimitExceededError(
                f"coding tables of {found} bytes exceed the server's max_model_bytes of {max_bytes}",
                metadata={"limit": "max_model_bytes", "value": str(max_bytes)},
            )
        cdf_values, cdf_problems = _int32_vector("cdf", cdf)
        offset_values, offset_problems = _int32_vector("cdf_offset", cdf_offset)
        problems = cdf_problems + offset_problems
        if not cdf_problems:
            problems += _row_problems(cdf_values)
        if not problems:
            problems += _offset_problems(cdf_values, offset_values)
            problems += _quantization_problems(quantization_offset, len(offset_values))
        if problems:
            raise InvalidConfigError.of(problems)

        precision = -int(cdf_values[0])
        begins = np.flatnonzero((cdf_values >= 0) & (cdf_values < 1 << precision))
        bounds = _bounds(cdf_values, begins)
        rows, buckets, hints = _lookup(cdf_values, offset_values, bounds, precision)
        intervals = _intervals(cdf_values, begins, rows, precision)
        if quantization_offset is not None:
            quantization_offset = np.array(quantization_offset)
            quantization_offset.flags.writeable = False
        for array in (cdf_values, offset_values, rows, bounds, buckets, hints, intervals):
            array.flags.writeable = False
        raw = RawTables(cdf_values, offset_values, quantization_offset)
        return cls(*raw, precision, raw.digest, rows, bounds, buckets, hints, intervals)


def _bytes(
    cdf: npt.ArrayLike, cdf_offset: npt.ArrayLike, quantization_offset: npt.NDArray[Any] | None
) -> int:
    floats = 0 if quantization_offset is None else quantization_offset.nbytes
    return 4 * (np.size(cdf) + np.size(cdf_offset)) + floats


def _int32_vector(field: str, values: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], list[Violation]]:
    """Copies integers into a contiguous int32 vector; the second result says why that cannot be done."""
    array = np.asarray(values)
    problem = ""
    if array.ndim != 1:
        problem = f"has rank {array.ndim}; expected 1"
    elif array.dtype.kind not in "iu":
        problem = f"has dtype {array.dtype}; expected integers that fit int32"
    elif array.size and (array.min() < -(2**31) or array.max() >= 2**31):
        element = int(np.flatnonzero((array < -(2**31)) | (array >= 2**31))[0])
        problem = f"element {element} is {array[element]}; expected integers that fit int32"
    if problem:
        return np.empty(0, np.int32), [Violation(field, problem)]
    return np.array(array, np.int32, order="C"), []


def _row_problems(cdf: npt.NDArray[np.int32]) -> list[Violation]:
    """Says what is wrong with the rows of `cdf`; an empty answer means that every row is legal."""
    if not len(cdf):
        return [Violation("cdf", "holds no rows; expected at least one")]
    if len(cdf) > MAX_CDF_LENGTH:
        return [Violation("cdf", f"has length {len(cdf)}; expected at most {MAX_CDF_LENGTH}")]
    if cdf[0] >= 0:
        found = f"row 0 begins with {cdf[0]}; expected -precision"
        return [Violation("cdf", f"{found} (rows without an escape symbol are not supported)")]
    # Cumulative probabilities are not negative, so a negative value can only be the head of a row.
    heads = np.flatnonzero(cdf < 0)
    lengths = np.diff(heads, append=len(cdf))
    precision = -cdf[heads].astype(np.int64)
    outside = (precision < 1) | (precision > MAX_PRECISION)
    problems = [
        Violation("cdf", f"row {row} has precision {precision[row]}; expected 1 to {MAX_PRECISION}")
        for row in np.flatnonzero(outside)[:_MAX_REPORTED]
    ]
    problems += [
        Violation(
            "cdf",
            f"row {row} has precision {precision[row]} and row 0 has {precision[0]}; expected one precision",
        )
        for row in np.flatnonzero(~outside & (precision != precision[0]))[:_MAX_REPORTED]
    ]
    problems += [
        Violation("cdf", f"row {row} has {lengths[row]} elements; expected -precision, 0, ..., 2^precision")
        for row in np.flatnonzero(lengths < 3)[:_MAX_REPORTED]
    ]
    if problems:
        return problems

    problems += [
        Violation("cdf", f"row {row} begins its probabilities with {cdf[heads[row] + 1]}; expected 0")
        for row in np.flatnonzero(cdf[heads + 1] != 0)[:_MAX_REPORTED]
    ]
    falls = np.flatnonzero((cdf[1:] < cdf[:-1]) & (cdf[1:] >= 0)) + 1
    problems += [
        Violation(
            "cdf",
            f"row {row} falls from {cdf[element - 1]} to {cdf[element]} at element {element - heads[row]}; "
            "expected values that do not fall (and a row without an escape symbol is not supported)",
        )
        for element in falls[:_MAX_REPORTED]
        for row in [int(np.searchsorted(heads, element, side="right")) - 1]
    ]
    total = 1 << int(precision[0])
    tails = cdf[heads + lengths - 1]
    problems += [
        Violation("cdf", f"row {row} ends with {tails[row]}; expected 2^precision = {total}")
        for row in np.flatnonzero(tails != total)[:_MAX_REPORTED]
    ]
    problems += [
        Violation("cdf", f"row {row} has {lengths[row] - 2} intervals; expected at most {MAX_ROW_INTERVALS}")
        for row in np.flatnonzero(lengths - 2 > MAX_ROW_INTERVALS)[:_MAX_REPORTED]
    ]
    return problems


def _offset_problems(cdf: npt.NDArray[np.int32], cdf_offset: npt.NDArray[np.int32]) -> list[Violation]:
    rows = int(np.count_nonzero(cdf < 0))
    if len(cdf_offset) != rows:
        return [Violation("cdf_offset", f"has length {len(cdf_offset)}; expected {rows}, one per row of cdf")]
    far = np.abs(cdf_offset.astype(np.int64)) > MAX_CDF_OFFSET
    return [
        Violation("cdf_offset", f"row {row} has {cdf_offset[row]}; expected at most 2^29 in magnitude")
        for row in np.flatnonzero(far)[:_MAX_REPORTED]
    ]


def _quantization_problems(offset: npt.NDArray[Any] | None, rows: int) -> list[Violation]:
    field = "quantization_offset"
    if offset is None:
        return []
    if offset.shape != (rows,):
        return [Violation(field, f"has shape {offset.shape}; expected {(rows,)}, one per row of cdf")]
    if offset.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
        return [Violation(field, f"has dtype {offset.dtype}; expected float32 or float64")]
    return [
        Violation(field, f"row {row} has {offset[row]}; expected a finite number")
        for row in np.flatnonzero(~np.isfinite(offset))[:_MAX_REPORTED]
    ]


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
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.uint16],
    npt.NDArray[Any],
]:
    """Derives row records, decoding buckets and hints.

    A decoder knows a cumulative probability q below 2^precision and wants the last interval that begins at
    or before q. A row of n intervals is cut into the power of two from 2n to 4n of equal buckets (fewer if
    the precision does not allow as many), each of which knows where the search for its smallest q ends.
    From there the search meets n intervals at most over all buckets, so less than 1/2 on average whatever
    the row's shape, where q is uniform; and it is uniform if the symbols are drawn from the row.

    Hints are for parts of a row, at least 2: from 2n to 4n up to FINE_HINTS intervals, from n to 2n beyond. A
    part in which an interval begins has a hint that is wrong for a quarter of it, on average.
    """
    heads = np.flatnonzero(cdf < 0)
    tops = np.add.reduceat((cdf == 1 << precision).astype(np.int64), heads)
    intervals = np.diff(heads, append=len(cdf)) - 1 - tops
    bits = np.ceil(np.log2(intervals)).astype(np.int64)
    bucket_bits = np.minimum(bits + 1, precision)
    hint_bits = np.clip(bits + (intervals <= FINE_HINTS), 1, precision)

    rows = np.zeros((len(heads), ROW_FIELDS), np.int32)
    rows[:, Row.START] = np.cumsum(intervals) - intervals
    rows[:, Row.ESCAPE] = intervals - 1
    rows[:, Row.CDF_OFFSET] = cdf_offset
    rows[:, Row.BUCKET_START] = np.cumsum(1 << bucket_bits) - (1 << bucket_bits)
    rows[:, Row.BUCKET_SHIFT] = precision - bucket_bits
    rows[:, Row.HINT_START] = np.cumsum(1 << hint_bits) - (1 << hint_bits)
    rows[:, Row.HINT_SHIFT] = 64 - hint_bits
    buckets = np.empty(int((1 << bucket_bits).sum()), np.uint16)
    hint_type = np.uint8 if (intervals <= 1 << 8).all() else np.uint16
    hints: npt.NDArray[Any] = np.empty(int((1 << hint_bits).sum()), hint_type)
    fill_lookup(rows, bounds, precision, buckets, hints)
    middle = hints[rows[:, Row.HINT_START] + (1 << hint_bits >> 1)].astype(np.int64)
    rows[:, Row.LIKELY] = np.maximum(middle - LIKELY_INTERVALS // 2, 0)
    return rows, buckets, hints
