"""Reads tables from rows of integers, each from 0 to 2^precision, and lays them out as TFC does.

Invariant: tables that are returned are legal; problems name everything else that is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import Violation
from entropyd.contract.fields import integer
from entropyd.contract.parameters import Array
from entropyd.contract.table_checks import (
    MAX_CDF_LENGTH,
    MAX_PRECISION,
    MAX_REPORTED,
    cdf_problems,
    int32_vector,
    offset_problems,
)

_PRECISION = integer(1, MAX_PRECISION)
_ROWS = "expected a list of rows of integers, or a matrix of them"


def flat_tables(
    rows: Any, offsets: Any, lengths: Any, precision: Any
) -> tuple[tuple[Array, Array] | None, list[Violation]]:
    """Checks the arguments of TabulatedConfig that make its tables.

    Returns:
      `(cdf, cdf_offset)` in TFC's layout, int32 vectors, or None if something is wrong; and what is.
    """
    problems = list(_PRECISION.problems("precision", precision))
    values, sizes, row_problems = _concatenated(rows, lengths)
    problems += row_problems
    cdf_offset, problems_of_offsets = int32_vector("offsets", offsets)
    problems += problems_of_offsets
    if row_problems:
        return None, problems
    if not problems_of_offsets:
        problems += offset_problems(len(sizes), cdf_offset, "offsets", "row")
    stops = np.cumsum(sizes)
    if not any(problem.field == "precision" for problem in problems):
        problems += cdf_problems(values, stops - sizes, stops, int(precision), "rows", rising=True)
    if problems:
        return None, problems
    cdf = np.insert(values.astype(np.int32), stops - sizes, np.int32(-precision))
    return (cdf, cdf_offset), []


def _concatenated(
    rows: Any, lengths: Any
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[Violation]]:
    """The entries of all rows that count, int64, how many each row has, and what is wrong with either."""
    empty = np.empty(0, np.int64), np.empty(0, np.int64)
    vectors, problems = _vectors(rows)
    if problems:
        return *empty, problems
    widths = np.array([len(vector) for vector in vectors], np.int64)
    field = "rows"
    if lengths is not None:
        field = "lengths"
        given, problems = int32_vector("lengths", lengths)
        if not problems and len(given) != len(vectors):
            problems = [
                Violation("lengths", f"has length {len(given)}; expected {len(vectors)}, one per row")
            ]
        if problems:
            return *empty, problems
        for row in np.flatnonzero(given > widths)[:MAX_REPORTED]:
            found = f"row {row} has {given[row]}; expected at most {widths[row]} entries, which it has"
            problems.append(Violation("lengths", found))
        widths = given.astype(np.int64)
    for row in np.flatnonzero(widths < 2)[:MAX_REPORTED]:
        has = f"row {row} has {widths[row]}"
        problems.append(Violation(field, f"{has}; expected at least 2 entries, 0 and 2^precision"))
    if (total := int(widths.sum()) + len(widths)) > MAX_CDF_LENGTH:
        found = f"have {total} entries with one for the precision of each; expected at most {MAX_CDF_LENGTH}"
        problems.append(Violation("rows", found))
    if problems:
        return *empty, problems
    counted = [vector[:width] for vector, width in zip(vectors, widths.tolist(), strict=True)]
    return np.concatenate(counted), widths, []


def _vectors(rows: Any) -> tuple[list[npt.NDArray[np.int64]], list[Violation]]:
    """Rows as vectors of int64, and what is wrong with them."""
    if not isinstance(rows, (list, tuple)):
        matrix = np.asarray(rows)
        if matrix.ndim != 2 or matrix.dtype.kind not in "iu":
            found = f"are {matrix.dtype} of rank {matrix.ndim}; {_ROWS}"
            return [], [Violation("rows", found)]
        rows = matrix
    if not len(rows):
        return [], [Violation("rows", "are none; expected at least one")]
    vectors: list[npt.NDArray[np.int64]] = []
    problems: list[Violation] = []
    for number, row in enumerate(rows):
        try:
            vector = np.asarray(row)
        except ValueError:  # nested lists of different lengths
            vector = np.asarray(None)
        if vector.ndim != 1 or (vector.dtype.kind not in "iu" and vector.size):
            found = f"row {number} is {vector.dtype} of rank {vector.ndim}; expected a vector of integers"
            problems.append(Violation("rows", found))
            if len(problems) == MAX_REPORTED:
                break
            continue
        if vector.dtype == np.uint64:  # what int64 lacks is too large in any case
            vector = np.minimum(vector, np.iinfo(np.int64).max)
        vectors.append(vector.astype(np.int64))
    return vectors, problems
