"""Laws of index planes: their dtype is the narrowest, and a unit's checksum is that of its rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd.contract.indexes import indexes_crc32c, row_dtype
from entropyd.contract.wire import array_from_message, tensor_to_message


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "int32"), (2**20, "int32")],
)
def test_the_dtype_is_the_narrowest_that_holds_every_row(rows: int, dtype: str) -> None:
    assert row_dtype(rows) == np.dtype(dtype)
    assert np.array(rows - 1).astype(dtype) == rows - 1


def crc32c(content: bytes) -> int:
    """CRC32C bit by bit: RFC 3720, polynomial 0x1EDC6F41, reflected."""
    remainder = 0xFFFFFFFF
    for byte in content:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def planes() -> st.SearchStrategy[npt.NDArray[Any]]:
    rows = st.sampled_from([1, 7, 256, 257, 65536, 65537, 2**20])
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)
    return rows.flatmap(lambda n: hnp.arrays(row_dtype(n), shapes, elements=st.integers(0, n - 1)))


@given(planes())
def test_a_checksum_is_crc32c_of_the_rows_in_little_endian_order(plane: npt.NDArray[Any]) -> None:
    size = plane.dtype.itemsize
    expected = [crc32c(b"".join(int(row).to_bytes(size, "little") for row in unit)) for unit in plane]
    checksums = indexes_crc32c(plane)
    assert checksums.dtype == np.uint32
    assert checksums.tolist() == expected


@given(planes())
def test_checksums_do_not_depend_on_layout_byte_order_or_neighbours(plane: npt.NDArray[Any]) -> None:
    expected = indexes_crc32c(plane)
    for same in (np.asfortranarray(plane), plane.astype(plane.dtype.newbyteorder(">"))):
        assert np.array_equal(indexes_crc32c(same), expected)
    for unit in range(len(plane)):
        assert indexes_crc32c(plane[unit : unit + 1]) == expected[unit]


@given(planes().filter(lambda plane: plane.size > 0), st.data())
def test_one_changed_index_changes_the_checksum_of_its_unit_alone(
    plane: npt.NDArray[Any], data: st.DataObject
) -> None:
    unit, element = (data.draw(st.integers(0, length - 1)) for length in plane.shape)
    changed = plane.copy()
    changed[unit, element] ^= 1
    assert np.flatnonzero(indexes_crc32c(changed) != indexes_crc32c(plane)).tolist() == [unit]


@given(planes())
def test_a_plane_survives_the_wire(plane: npt.NDArray[Any]) -> None:
    name, restored = array_from_message(tensor_to_message(plane), "indexes")
    assert name == plane.dtype.name
    assert np.array_equal(restored, plane)
