"""Random coding tables and integers, and the kernels called on plain integers.

Invariant: tables are legal, escapes and empty intervals included, and integers reach the last one that can be
coded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.elements import ELEMENT_OF_DTYPE
from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.kernels.range_encoder import (
    PAYLOAD_GUARD_BYTES,
    encode_units,
    encoded_capacity,
)

Row = tuple[list[int], int]
MAX_MAGNITUDE = 2**30 - 1
FLOAT64 = ELEMENT_OF_DTYPE[np.dtype(np.float64)]
NO_OFFSETS = kernel_bytes(np.empty(0))


@dataclass(frozen=True)
class Case:
    """Tables as rows of (cumulative, cdf_offset), and coding units with a row and an integer per symbol."""

    precision: int
    rows: list[Row]
    row_index: list[int]
    units: list[list[int]]

    @property
    def tables(self) -> CodingTables:
        return tables_of(self.precision, self.rows)

    @property
    def coding_rows(self) -> list[Row]:
        """The row of each symbol, in coding order."""
        return [self.rows[index] for index in self.row_index]


def tables_of(precision: int, rows: list[Row]) -> CodingTables:
    flat = [value for cumulative, _ in rows for value in [-precision, *cumulative]]
    return CodingTables.parse(flat, [cdf_offset for _, cdf_offset in rows])


@st.composite
def table_rows(draw: st.DrawFn, precision: int, *, empty_intervals: bool = False) -> Row:
    """A row of 1 to some dozens of intervals, or, rarely, of as many as the precision allows."""
    total = 1 << precision
    if draw(st.integers(0, 19)) == 0:
        cuts = list(range(1, total))
    else:
        cuts = draw(st.lists(st.integers(0 if empty_intervals else 1, total - 1), max_size=40))
        cuts = sorted(cuts if empty_intervals else set(cuts))
    limit = 2**29
    cdf_offset = draw(st.integers(-100, 100) | st.integers(-limit, limit) | st.sampled_from([-limit, limit]))
    return [0, *cuts, total], cdf_offset


@st.composite
def integers_of(draw: st.DrawFn, row: Row) -> int:
    """An integer that the row codes: mostly inside, else an escape of any legal magnitude."""
    cumulative, cdf_offset = row
    escape = len(cumulative) - 2
    if escape and draw(st.integers(0, 3)):
        return cdf_offset + draw(st.integers(0, escape - 1))
    bits = draw(st.integers(0, 29))
    magnitude = draw(st.integers(1 << bits, (2 << bits) - 1) | st.sampled_from([1 << bits, (2 << bits) - 1]))
    return cdf_offset + (draw(st.sampled_from([-magnitude, escape - 1 + magnitude])))


@st.composite
def cases(draw: st.DrawFn, *, empty_intervals: bool = False, max_symbols: int = 60) -> Case:
    precision = draw(st.integers(1, 16))
    rows = draw(st.lists(table_rows(precision, empty_intervals=empty_intervals), min_size=1, max_size=4))
    row_index = draw(st.lists(st.integers(0, len(rows) - 1), max_size=max_symbols))
    unit = st.tuples(*(integers_of(rows[index]) for index in row_index)).map(list)
    return Case(precision, rows, row_index, draw(st.lists(unit, max_size=3)))


def encode_integers(
    tables: CodingTables, row_index: list[int], units: list[list[int]], *, unit_stride: int = 0
) -> tuple[list[bytes], list[Status], list[int]]:
    """Encodes integers as float64 values with offset 0, which rounding leaves as they are."""
    values = np.array(units, np.float64).reshape(len(units), unit_stride or len(row_index))
    return encode_values(tables, row_index, values, unit_stride=unit_stride)


def encode_values(
    tables: CodingTables, row_index: list[int], values: npt.NDArray[np.float64], *, unit_stride: int = 0
) -> tuple[list[bytes], list[Status], list[int]]:
    """Gives string, status and position per unit."""
    count = len(values)
    lengths, statuses = np.zeros(count, np.uint32), np.zeros(count, np.uint8)
    positions = np.zeros(count, np.int64)
    payload = np.empty(encoded_capacity(values.size), np.uint8)
    done, end, _ = encode_units(
        kernel_bytes(values),
        FLOAT64,
        values.shape[1],
        NO_OFFSETS,
        kernel_input(np.array(row_index, np.int32)),
        unit_stride,
        tables.rows,
        tables.bounds,
        tables.precision,
        0,
        payload,
        lengths,
        statuses,
        positions,
    )
    assert done == count
    ends = PAYLOAD_GUARD_BYTES + np.cumsum(lengths, dtype=np.int64)
    assert end == (ends[-1] if count else PAYLOAD_GUARD_BYTES)
    strings = [payload[stop - length : stop].tobytes() for stop, length in zip(ends, lengths, strict=True)]
    return strings, [Status(status) for status in statuses], positions.tolist()


def decode_integers(
    tables: CodingTables,
    row_index: list[int],
    strings: list[bytes],
    *,
    sanity_check: bool = True,
    unit_stride: int = 0,
) -> tuple[list[list[int] | None], list[Status], list[int]]:
    """Gives integers (None for a unit that failed), status and position per unit."""
    lengths = np.array([len(string) for string in strings], np.uint32)
    values = np.empty((len(strings), unit_stride or len(row_index)))
    statuses, positions = np.zeros(len(strings), np.uint8), np.zeros(len(strings), np.int64)
    decode_units(
        kernel_input(np.frombuffer(b"".join(strings), np.uint8)),
        kernel_input(lengths),
        values.shape[1],
        kernel_input(np.array(row_index, np.int32)),
        unit_stride,
        tables.rows,
        tables.bounds,
        tables.hints,
        tables.intervals,
        tables.precision,
        sanity_check,
        values.reshape(-1).view(np.uint8),
        FLOAT64,
        NO_OFFSETS,
        statuses,
        positions,
    )
    integers = []
    for status, unit in zip(statuses, values, strict=True):
        assert np.isnan(unit).all() or status == Status.OK
        integers.append([int(value) for value in unit] if status == Status.OK else None)
    return integers, [Status(status) for status in statuses], positions.tolist()
