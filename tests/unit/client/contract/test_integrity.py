"""Laws of checksums: blocks cover every unit once, and a change shows in the block that holds it."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.integrity import BLOCK_BYTES, damaged_units, make_blocks

if TYPE_CHECKING:
    from entropyd.v1 import types_pb2

Units = tuple[bytes, npt.NDArray[np.uint32]]


@st.composite
def units(draw: st.DrawFn) -> Units:
    """Bit strings from empty ones to some that fill a block alone; the content hardly matters."""
    sizes = st.integers(0, 40) | st.integers(BLOCK_BYTES // 3, BLOCK_BYTES + 9)
    lengths = draw(st.lists(sizes, min_size=1, max_size=12))
    content = np.random.default_rng(draw(st.integers(0, 99))).bytes(sum(lengths))
    return content, np.array(lengths, np.uint32)


def block_of_unit(blocks: list[types_pb2.Block]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(blocks)), [block.units for block in blocks])


@given(units())
def test_blocks_cover_every_unit_once_and_are_not_damaged(drawn: Units) -> None:
    payload, lengths = drawn
    blocks = make_blocks(payload, lengths)
    assert all(block.units >= 1 for block in blocks)
    assert sum(block.units for block in blocks) == len(lengths)
    assert not damaged_units(payload, lengths, blocks).any()


@given(units())
def test_a_block_holds_at_most_its_bytes_unless_one_unit_is_larger(drawn: Units) -> None:
    payload, lengths = drawn
    owner = block_of_unit(make_blocks(payload, lengths))
    for block in range(int(owner.max()) + 1):
        inside = lengths[owner == block]
        assert len(inside) == 1 or inside.sum() <= BLOCK_BYTES


@given(units(), st.data())
def test_a_flipped_bit_is_found_in_exactly_its_block(drawn: Units, data: st.DataObject) -> None:
    payload, lengths = drawn
    if not payload:
        return
    blocks = make_blocks(payload, lengths)
    position = data.draw(st.integers(0, len(payload) - 1))
    changed = bytearray(payload)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    owner = block_of_unit(blocks)
    unit = next(unit for unit, end in enumerate(accumulate(lengths.tolist())) if position < end)
    assert np.array_equal(damaged_units(bytes(changed), lengths, blocks), owner == owner[unit])


@given(units(), st.data())
def test_a_moved_border_between_units_is_found_in_exactly_their_blocks(
    drawn: Units, data: st.DataObject
) -> None:
    payload, lengths = drawn
    borders = np.flatnonzero(lengths[1:]).tolist()
    if not borders:
        return
    border = data.draw(st.sampled_from(borders))
    moved = data.draw(st.integers(1, int(lengths[border + 1])))
    changed = lengths.copy()
    changed[border] += moved
    changed[border + 1] -= moved
    blocks = make_blocks(payload, lengths)
    owner = block_of_unit(blocks)
    expected = np.isin(owner, [owner[border], owner[border + 1]])
    assert np.array_equal(damaged_units(payload, changed, blocks), expected)


@given(units(), st.data())
def test_a_changed_checksum_damages_exactly_its_block(drawn: Units, data: st.DataObject) -> None:
    payload, lengths = drawn
    blocks = make_blocks(payload, lengths)
    block = data.draw(st.integers(0, len(blocks) - 1))
    blocks[block].crc32c ^= 1 << data.draw(st.integers(0, 31))
    assert np.array_equal(damaged_units(payload, lengths, blocks), block_of_unit(blocks) == block)


def test_no_units_have_no_blocks() -> None:
    none = np.empty(0, np.uint32)
    assert make_blocks(b"", none) == []
    assert damaged_units(b"", none, []).tolist() == []


def test_units_without_bytes_have_a_checksum_too() -> None:
    lengths = np.zeros(3, np.uint32)
    (block,) = make_blocks(b"", lengths)
    assert block.units == 3
    assert not damaged_units(b"", lengths, [block]).any()


def test_without_checksums_nothing_is_known_to_be_damaged() -> None:
    assert damaged_units(b"ab", np.array([1, 1], np.uint32), []).tolist() == [False, False]


def test_a_checksum_is_crc32c_over_lengths_and_strings() -> None:
    (block,) = make_blocks(b"abc", np.array([1, 2], np.uint32))
    assert block.crc32c == crc32c(b"\x01\0\0\0\x02\0\0\0abc")
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the Castagnoli polynomial


def crc32c(content: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ 0x82F63B78 * (state & 1)
    return state ^ 0xFFFFFFFF
