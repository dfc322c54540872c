"""The rANS kernels called on plain integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.coding.coders import Rans64Coder
from entropyd_server.coding.rows import Rows
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.range_coder import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entropyd_server.coding.tables import CodingTables

_CODER = Rans64Coder()


def _rows_of(row_index: list[int], dtype: str = "float64") -> Rows:
    return Rows((len(row_index),), kernel_input(np.array(row_index, np.int32)), np.empty(0, dtype))


def encode_rans(
    tables: CodingTables, row_index: list[int], units: Sequence[Sequence[float]], dtype: str = "float64"
) -> tuple[list[bytes], list[Status], list[int]]:
    """Gives string, status and position per unit."""
    values = np.array(units, dtype).reshape(len(units), len(row_index))
    coded = _CODER.encode(tables, kernel_input(values), _rows_of(row_index, dtype))
    ends = np.cumsum(coded.lengths, dtype=np.int64).tolist()
    strings = [coded.payload[end - length : end] for end, length in zip(ends, coded.lengths, strict=True)]
    return strings, [Status(status) for status in coded.statuses], coded.positions.tolist()


def decode_rans(
    tables: CodingTables, row_index: list[int], strings: list[bytes], dtype: str = "float64"
) -> tuple[list[list[int] | None], list[Status], list[int]]:
    """Gives integers (None for a unit that failed), status and position per unit."""
    values = np.empty((len(strings), len(row_index)), dtype)
    statuses, positions = _CODER.decode(
        tables,
        kernel_input(np.frombuffer(b"".join(strings), np.uint8)),
        np.array([len(string) for string in strings], np.uint32),
        _rows_of(row_index, dtype),
        values,
    )
    integers = []
    for status, unit in zip(statuses, values, strict=True):
        assert np.isnan(unit).all() or status == Status.OK
        integers.append([int(value) for value in unit] if status == Status.OK else None)
    return integers, [Status(status) for status in statuses], positions.tolist()
