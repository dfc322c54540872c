"""Rows of integers from probabilities, counts or float CDFs."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.table_checks import MAX_PRECISION
from entropyd.tables.frequencies import compressai, least_excess

Quantization = Literal["optimal", "compressai"]
Row = npt.NDArray[np.int32]

_QUANTIZERS = {"optimal": least_excess, "compressai": compressai}
# By so much probabilities may add up to more than 1: sums of float32, and tails that were rounded up.
_SLACK = 0.01


def from_pmf(
    pmf: Any,
    precision: int = 16,
    *,
    lengths: Any = None,
    escape: Any = None,
    quantization: Quantization = "optimal",
) -> Any:
    """Makes rows from the probabilities of neighbouring integers.

    Args:
      pmf: [integers] for one row; for several, a list of such vectors, or a matrix [rows, widest].
      precision: Base-2 logarithm of the total of every row, 1 to 16.
      lengths: [rows], how many entries of each row count; None for all.
      escape: The probability of all other integers, a number or one for each row. None for what the row lacks
        to 1. The escape always gets a frequency of 1 at least, as every integer does.
      quantization: `optimal` for the frequencies with the least expected bits; `compressai` for those of
        CompressAI's `pmf_to_quantized_cdf`, integer for integer.

    Returns:
      int32 [integers + 2] for one row; for several, a list of them.

    Raises:
      InvalidConfigError: Naming the row and the element of a number that is no probability; if there are more
        integers than frequencies, or the probabilities add up to more than 1.
    """
    _check(precision, quantization)
    rows, single = _vectors("pmf", pmf, lengths)
    escapes = [None] * len(rows) if escape is None else _numbers("escape", escape, len(rows))
    made = []
    for number, (row, mass) in enumerate(zip(rows, escapes, strict=True)):
        where = "pmf" if single else f"pmf[{number}]"
        _check_probabilities(where, row)
        total = float(row.sum(dtype=np.float64))
        tail = max(0.0, 1 - total) if mass is None else mass
        if not total + tail <= 1 + _SLACK:
            beside = "" if mass is None else f", with an escape of {mass:g}"
            found = f"adds up to {total:g}{beside}; expected at most 1 (from_counts takes counts)"
            raise InvalidConfigError.at(where, found)
        made.append(_row(where, np.append(row, row.dtype.type(tail)), precision, quantization))
    return made[0] if single else made


def from_counts(
    counts: Any,
    precision: int = 16,
    *,
    lengths: Any = None,
    escape: Any = 0,
    quantization: Quantization = "optimal",
) -> Any:
    """Makes rows from how often neighbouring integers were seen.

    Args:
      counts: As the `pmf` of `from_pmf`; numbers of any size. A row without any is as if all integers had
        been seen equally often.
      precision: See `from_pmf`.
      lengths: See `from_pmf`.
      escape: How often other integers were seen, a number or one for each row.
      quantization: See `from_pmf`.

    Returns:
      See `from_pmf`.

    Raises:
      InvalidConfigError: As `from_pmf`.
    """
    _check(precision, quantization)
    rows, single = _vectors("counts", counts, lengths)
    escapes = _numbers("escape", escape, len(rows))
    shares, tails = [], []
    for number, (row, tail) in enumerate(zip(rows, escapes, strict=True)):
        where = "counts" if single else f"counts[{number}]"
        _check_probabilities(where, row)
        _check_length(where, len(row), precision)
        seen = row.astype(np.float64) if row.any() or tail else np.ones(len(row))
        total = float(seen.sum()) + tail
        shares.append(seen / total if total else seen)
        tails.append(tail / total if total else 1.0)
    made = from_pmf(shares, precision, escape=tails, quantization=quantization)
    return made[0] if single else made


def from_cdf_float(
    cdf: Any,
    precision: int = 16,
    *,
    lengths: Any = None,
    escape: Any = None,
    quantization: Quantization = "optimal",
) -> Any:
    """Makes rows from cumulative probabilities.

    Args:
      cdf: As the `pmf` of `from_pmf`, but one more number for each row, not falling, from 0 to 1: the
        probability of what is below the first integer, below the second, ..., and of the last or below.
      precision: See `from_pmf`.
      lengths: [rows], how many numbers of each row count; None for all.
      escape: See `from_pmf`. None for what the row leaves to both sides.
      quantization: See `from_pmf`.

    Returns:
      int32 [numbers + 1] for one row; for several, a list of them.

    Raises:
      InvalidConfigError: As `from_pmf`; or if a row falls.
    """
    rows, single = _vectors("cdf", cdf, lengths)
    for number, row in enumerate(rows):
        where = "cdf" if single else f"cdf[{number}]"
        if not len(row):
            raise InvalidConfigError.at(where, "is empty; expected at least one number")
        _check_probabilities(where, row)
        falls = np.flatnonzero(np.diff(row) < 0)
        if len(falls):
            element = int(falls[0]) + 1
            found = f"falls from {row[element - 1]} to {row[element]} at element {element}"
            raise InvalidConfigError.at(where, f"{found}; expected numbers that do not fall")
        if row[-1] > 1 + _SLACK:
            raise InvalidConfigError.at(where, f"ends with {row[-1]}; expected at most 1")
    steps = [np.diff(row) for row in rows]
    made = from_pmf(steps, precision, escape=escape, quantization=quantization)
    return made[0] if single else made


def _check(precision: Any, quantization: Any) -> None:
    if quantization not in _QUANTIZERS:
        expected = f"expected one of {', '.join(_QUANTIZERS)}"
        raise InvalidConfigError.at("quantization", f"is {quantization!r:.80}; {expected}")
    if not (isinstance(precision, (int, np.integer)) and 1 <= precision <= MAX_PRECISION):
        found = f"is {precision!r:.80}; expected an integer from 1 to {MAX_PRECISION}"
        raise InvalidConfigError.at("precision", found)


def _vectors(field: str, rows: Any, lengths: Any) -> tuple[list[npt.NDArray[np.float64]], bool]:
    """Rows as vectors of float64, and whether there is only one that is in no list."""
    try:
        given = [_float_vector(field, rows)] if _is_row(rows) else [_float_vector(field, row) for row in rows]
    except (TypeError, ValueError) as error:
        expected = "expected a vector of numbers, a list of them, or a matrix"
        raise InvalidConfigError.at(field, f"is {rows!r:.80}; {expected}") from error
    single = _is_row(rows)
    if lengths is None:
        return given, single
    counted = _numbers("lengths", lengths, len(given))
    for row, (length, vector) in enumerate(zip(counted, given, strict=True)):
        if not (0 <= length <= len(vector) and length == int(length)):
            found = f"has {length:g} for row {row}; expected an integer from 0 to {len(vector)}"
            raise InvalidConfigError.at("lengths", found)
    return [vector[: int(length)] for length, vector in zip(counted, given, strict=True)], single


def _is_row(rows: Any) -> bool:
    return len(rows) == 0 or np.ndim(rows[0]) == 0


def _float_vector(field: str, row: Any) -> npt.NDArray[np.float64]:
    vector = np.asarray(row)
    if vector.ndim != 1 or (vector.size and vector.dtype.kind not in "iuf"):
        found = f"has a row of {vector.dtype} of rank {vector.ndim}; expected a vector of numbers"
        raise InvalidConfigError.at(field, found)
    return vector.astype(np.float64)


def _numbers(field: str, value: Any, rows: int) -> list[float]:
    """A number for each row."""
    try:
        numbers = np.broadcast_to(np.asarray(value, np.float64), (rows,))
    except (TypeError, ValueError) as error:
        expected = f"expected a number, or one for each of {rows} rows"
        raise InvalidConfigError.at(field, f"is {value!r:.80}; {expected}") from error
    _check_probabilities(field, numbers)
    given: list[float] = numbers.tolist()
    return given


def _check_probabilities(field: str, numbers: npt.NDArray[np.float64]) -> None:
    good = (numbers >= 0) & (numbers < np.inf)
    if not good.all():
        element = int(np.argmin(good))
        found = f"is {numbers[element]}; expected a finite number of at least 0"
        raise InvalidConfigError.at(f"{field}[{element}]", found)


def _check_length(field: str, integers: int, precision: int) -> None:
    most = (1 << precision) - 1
    if integers > most:
        found = f"has {integers} integers; expected at most {most} for precision {precision}"
        raise InvalidConfigError.at(field, f"{found}: leave rare ones to the escape")


def _row(field: str, pmf: npt.NDArray[np.float64], precision: int, quantization: Quantization) -> Row:
    """The row of probabilities, the last of which is the escape's."""
    _check_length(field, len(pmf) - 1, precision)
    counted = pmf if quantization == "optimal" else pmf.astype(np.float32) * np.float32(1 << precision)
    if not (counted >= (0.5 if quantization == "compressai" else np.nextafter(0, 1))).any():
        found = f"holds nothing but probabilities below 2^-{precision + 1}; expected one above"
        raise InvalidConfigError.at(field, found)
    frequencies = _QUANTIZERS[quantization](pmf, precision)
    return np.concatenate(([0], np.cumsum(frequencies))).astype(np.int32)
