"""What is wrong with coding tables that were supplied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.errors import Violation

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_PRECISION = 16
# Within this bound symbol + cdf_offset of every legal symbol fits int32, as TFC computes it.
MAX_CDF_OFFSET = 2**29
# A row that a density can fill has at most one interval per probability step of 2^-16.
MAX_ROW_INTERVALS = 2**16
# Keeps every position in the tables and in the lookup below 2^31.
MAX_CDF_LENGTH = 2**27
_MAX_REPORTED = 8


def int32_vector(field: str, values: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], list[Violation]]:
    """Copies integers into a contiguous int32 vector, or lists why that cannot be done."""
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
    """Lists what is wrong with the rows of `cdf`; nothing if every row is legal."""
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


def offset_problems(cdf: npt.NDArray[np.int32], cdf_offset: npt.NDArray[np.int32]) -> list[Violation]:
    """Lists what is wrong with `cdf_offset` for rows that are legal."""
    rows = int(np.count_nonzero(cdf < 0))
    if len(cdf_offset) != rows:
        return [Violation("cdf_offset", f"has length {len(cdf_offset)}; expected {rows}, one per row of cdf")]
    far = np.abs(cdf_offset.astype(np.int64)) > MAX_CDF_OFFSET
    return [
        Violation("cdf_offset", f"row {row} has {cdf_offset[row]}; expected at most 2^29 in magnitude")
        for row in np.flatnonzero(far)[:_MAX_REPORTED]
    ]


def quantization_problems(offset: npt.NDArray[Any] | None, rows: int) -> list[Violation]:
    """Lists what is wrong with the quantization offset of so many rows."""
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
