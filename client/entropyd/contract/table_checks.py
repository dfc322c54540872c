"""What is wrong with coding tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import Violation

MAX_PRECISION = 16
# Within this bound symbol + cdf_offset of every legal symbol fits int32, as TFC computes it.
MAX_CDF_OFFSET = 2**29
# A row that a density can fill has at most one interval per probability step of 2^-16.
MAX_ROW_INTERVALS = 2**16
# Keeps every position in the tables and in the lookup below 2^31.
MAX_CDF_LENGTH = 2**27
MAX_REPORTED = 8


def int32_vector(field: str, values: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], list[Violation]]:
    """A contiguous int32 copy of a vector of integers, or what is wrong with it."""
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


def row_problems(cdf: npt.NDArray[np.int32], field: str = "cdf", *, rising: bool = False) -> list[Violation]:
    """What is wrong with rows in TFC's flat layout; with `rising`, intervals without a probability too."""
    if not len(cdf):
        return [Violation(field, "holds no rows; expected at least one")]
    if len(cdf) > MAX_CDF_LENGTH:
        return [Violation(field, f"has length {len(cdf)}; expected at most {MAX_CDF_LENGTH}")]
    if cdf[0] >= 0:
        found = f"row 0 begins with {cdf[0]}; expected -precision"
        return [Violation(field, f"{found} (rows without an escape symbol are not supported)")]
    # Cumulative probabilities are not negative, so a negative value can only be the head of a row.
    heads = np.flatnonzero(cdf < 0)
    lengths = np.diff(heads, append=len(cdf))
    precision = -cdf[heads].astype(np.int64)
    outside = (precision < 1) | (precision > MAX_PRECISION)
    expected = f"expected 1 to {MAX_PRECISION}"
    problems = _rows(outside, lambda row: f"has precision {precision[row]}; {expected}", field)
    other = f"and row 0 has {precision[0]}; expected one precision"
    different = ~outside & (precision != precision[0])
    problems += _rows(different, lambda row: f"has precision {precision[row]} {other}", field)
    layout = "-precision, 0, ..., 2^precision"
    problems += _rows(lengths < 3, lambda row: f"has {lengths[row]} elements; expected {layout}", field)
    if problems:
        return problems
    return cdf_problems(cdf, heads + 1, heads + lengths, int(precision[0]), field, rising=rising, first=1)


def cdf_problems(
    values: npt.NDArray[Any],
    starts: npt.NDArray[np.intp],
    stops: npt.NDArray[np.intp],
    precision: int,
    field: str,
    *,
    rising: bool,
    first: int = 0,
) -> list[Violation]:
    """What is wrong with cumulative probabilities.

    Args:
      values: Integers, the rows one after the other; what lies between them is ignored.
      starts: [rows], where each row begins.
      stops: [rows], where it ends, at least two values later.
      precision: Base-2 logarithm of what rows rise to.
      field: Named by what is returned.
      rising: Whether equal neighbours are wrong.
      first: Number of the first value of a row, in messages.
    """
    total = 1 << precision
    begins, ends = values[starts], values[stops - 1]
    problems = _rows(
        begins != 0, lambda row: f"begins its probabilities with {begins[row]}; expected 0", field
    )
    steps = values[1:] <= values[:-1] if rising else values[1:] < values[:-1]
    falls = np.flatnonzero(steps) + 1
    rows = np.searchsorted(starts, falls, side="right") - 1
    within = (falls > starts[rows]) & (falls < stops[rows]) & (rows >= 0)
    falls, rows = falls[within][:MAX_REPORTED], rows[within][:MAX_REPORTED]
    order = "rise" if rising else "do not fall (and a row without an escape symbol is not supported)"
    for element, row in zip(falls.tolist(), rows.tolist(), strict=True):
        before, value = values[element - 1], values[element]
        goes = f"falls from {before} to {value}" if value < before else f"stays at {value}"
        where = f"at element {element - starts[row] + first}"
        problems.append(Violation(field, f"row {row} {goes} {where}; expected values that {order}"))
    problems += _rows(
        ends != total, lambda row: f"ends with {ends[row]}; expected 2^precision = {total}", field
    )
    intervals, most = stops - starts - 1, f"intervals; expected at most {MAX_ROW_INTERVALS}"
    many = intervals > MAX_ROW_INTERVALS
    return problems + _rows(many, lambda row: f"has {intervals[row]} {most}", field)


def _rows(wrong: npt.NDArray[np.bool_], found: Callable[[Any], str], field: str) -> list[Violation]:
    rows = np.flatnonzero(wrong)[:MAX_REPORTED]
    return [Violation(field, f"row {row} {found(row)}") for row in rows]


def offset_problems(
    rows: int, cdf_offset: npt.NDArray[np.int32], field: str = "cdf_offset", per: str = "row of cdf"
) -> list[Violation]:
    """What is wrong with the smallest integers of so many rows."""
    if len(cdf_offset) != rows:
        return [Violation(field, f"has length {len(cdf_offset)}; expected {rows}, one per {per}")]
    far = np.abs(cdf_offset.astype(np.int64)) > MAX_CDF_OFFSET
    expected = "expected at most 2^29 in magnitude"
    return _rows(far, lambda row: f"has {cdf_offset[row]}; {expected}", field)


def quantization_problems(offset: npt.NDArray[Any] | None, rows: int) -> list[Violation]:
    field = "quantization_offset"
    if offset is None:
        return []
    if offset.shape != (rows,):
        return [Violation(field, f"has shape {offset.shape}; expected {(rows,)}, one per row of cdf")]
    if offset.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
        return [Violation(field, f"has dtype {offset.dtype}; expected float32 or float64")]
    return _rows(~np.isfinite(offset), lambda row: f"has {offset[row]}; expected a finite number", field)
