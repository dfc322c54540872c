"""What is wrong with coding tables that were supplied."""

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
_MAX_REPORTED = 8


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


def row_problems(cdf: npt.NDArray[np.int32]) -> list[Violation]:
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
    problems = _rows(outside, lambda row: f"has precision {precision[row]}; expected 1 to {MAX_PRECISION}")
    other = f"and row 0 has {precision[0]}; expected one precision"
    problems += _rows(
        ~outside & (precision != precision[0]), lambda row: f"has precision {precision[row]} {other}"
    )
    layout = "-precision, 0, ..., 2^precision"
    problems += _rows(lengths < 3, lambda row: f"has {lengths[row]} elements; expected {layout}")
    if problems:
        return problems

    first = cdf[heads + 1]
    problems += _rows(first != 0, lambda row: f"begins its probabilities with {first[row]}; expected 0")
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
    problems += _rows(tails != total, lambda row: f"ends with {tails[row]}; expected 2^precision = {total}")
    intervals, most = lengths - 2, f"intervals; expected at most {MAX_ROW_INTERVALS}"
    return problems + _rows(intervals > MAX_ROW_INTERVALS, lambda row: f"has {intervals[row]} {most}")


def _rows(wrong: npt.NDArray[np.bool_], found: Callable[[Any], str], field: str = "cdf") -> list[Violation]:
    rows = np.flatnonzero(wrong)[:_MAX_REPORTED]
    return [Violation(field, f"row {row} {found(row)}") for row in rows]


def offset_problems(cdf: npt.NDArray[np.int32], cdf_offset: npt.NDArray[np.int32]) -> list[Violation]:
    """What is wrong with `cdf_offset`, for rows that are legal."""
    rows = int(np.count_nonzero(cdf < 0))
    if len(cdf_offset) != rows:
        return [Violation("cdf_offset", f"has length {len(cdf_offset)}; expected {rows}, one per row of cdf")]
    far = np.abs(cdf_offset.astype(np.int64)) > MAX_CDF_OFFSET
    expected = "expected at most 2^29 in magnitude"
    return _rows(far, lambda row: f"has {cdf_offset[row]}; {expected}", "cdf_offset")


def quantization_problems(offset: npt.NDArray[Any] | None, rows: int) -> list[Violation]:
    field = "quantization_offset"
    if offset is None:
        return []
    if offset.shape != (rows,):
        return [Violation(field, f"has shape {offset.shape}; expected {(rows,)}, one per row of cdf")]
    if offset.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
        return [Violation(field, f"has dtype {offset.dtype}; expected float32 or float64")]
    return _rows(~np.isfinite(offset), lambda row: f"has {offset[row]}; expected a finite number", field)
