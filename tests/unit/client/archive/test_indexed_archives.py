"""Laws of archives of models with indexes: checksums and numbers stay with their units, whatever is read."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import CompressedTensor, InvalidRequestError
from entropyd.archive import Archive, ExactElements
from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.layout import BLOCK, LayoutError
from entropyd.archive.source import BytesSource
from entropyd.archive.units import numbers_of, runs_of
from entropyd.archive.verification import verify_source
from entropyd.contract.errors import EntropydError
from entropyd.contract.integrity import BLOCK_BYTES, damaged_units
from entropyd.v1 import types_pb2
from tests.support import reference_archive
from tests.support.archive_cases import INDEXED, SMALL, archive_bytes, same, tensor_of, with_flipped_bits

CHECKSUMS, NUMBERS = [7, 2**32 - 1, 0, 9, 10, 11, 12, 13], [0, 1, 2, 40, 39, 38, 5, 6]
LARGE = tensor_of(
    [bytes([97 + unit]) * (BLOCK_BYTES // 2) for unit in range(8)],
    (8,),
    indexes_crc32c=CHECKSUMS,
    unit_numbers=NUMBERS,
)
FLAGS = [(True, True), (True, False), (False, True)]


def with_flags(tensor: CompressedTensor, checksums: bool, numbers: bool) -> CompressedTensor:
    message = tensor.to_message()
    for name, kept in (("indexes_crc32c", checksums), ("unit_numbers", numbers)):
        if not kept:
            message.ClearField(name)
    return CompressedTensor.from_message(message)


@given(st.lists(st.integers(0, 2**63 - 70000) | st.integers(0, 9), max_size=30))
def test_runs_restore_their_numbers_and_are_as_few_as_can_be(numbers: list[int]) -> None:
    runs = runs_of(np.array(numbers, np.int64))
    assert numbers_of(runs.tolist()).tolist() == numbers
    assert all(first + count != following for (first, count), (following, _) in pairwise(runs))


@pytest.mark.parametrize("flags", FLAGS)
def test_selections_keep_what_is_known_of_their_units(flags: tuple[bool, bool]) -> None:
    tensor = with_flags(LARGE, *flags)
    archive = Archive.from_bytes(archive_bytes(tensor))
    assert (archive.index_checksums, archive.unit_numbers) == flags
    for key in (slice(3, 7), [6, 0, 3], np.arange(8) % 3 == 1, -1, ..., slice(None, None, -2), slice(0, 0)):
        for part in (archive[key], tensor[np.array(key) if isinstance(key, list) else key]):
            chosen = np.atleast_1d(np.arange(8)[key])
            expected = [np.array(CHECKSUMS)[chosen].tolist(), np.array(NUMBERS)[chosen].tolist()]
            found = [part.indexes_crc32c, part.unit_numbers]
            for values, kept, wanted in zip(found, flags, expected, strict=True):
                assert (None if values is None else values.tolist()) == (wanted if kept else None)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("with_exact", [True, False])
def test_the_independent_reader_finds_them_too(flags: tuple[bool, bool], with_exact: bool) -> None:
    exact = ExactElements.of(np.arange(8, dtype=np.float32), np.arange(8) % 5 == 1)
    options: dict[str, Any] = {"exact": [exact], "exact_dtype": "float32"} if with_exact else {}
    content = archive_bytes(with_flags(LARGE, *flags), **options)
    assert content[8] == 3
    found = reference_archive.read(content)
    assert found["strings"] == LARGE.strings.tolist()
    assert found["checksums"] == (CHECKSUMS if flags[0] else [])
    assert found["numbers"] == (NUMBERS if flags[1] else [])
    assert len(found["exact"]) == (2 if with_exact else 0)
    archive = Archive.from_bytes(content)
    assert same(archive.read(), with_flags(LARGE, *flags))
    assert archive.exact().positions.tolist() == ([1, 6] if with_exact else [])


def test_every_flipped_bit_is_reported_and_changes_no_value() -> None:
    exact = ExactElements.of(np.arange(6, dtype=np.float32), np.arange(6) % 4 == 1)
    for content in (archive_bytes(INDEXED), archive_bytes(INDEXED, exact=[exact], exact_dtype="float32")):
        for damaged in with_flipped_bits(content, step=3):
            assert not verify_source(BytesSource(damaged, "x")).good
            try:
                with Archive.from_bytes(damaged) as archive:
                    part = archive.read(on_error="skip")
                    lost = damaged_units(part.payload, part.lengths, part.blocks)
            except EntropydError:
                continue
            assert part.strings[~lost].tolist() == INDEXED.strings[~lost].tolist()
            for name in ("indexes_crc32c", "unit_numbers"):
                found, expected = getattr(part, name), getattr(INDEXED, name)
                assert found[~lost].tolist() == expected[~lost].tolist()


def test_a_damaged_block_costs_its_own_units_and_blocks_are_found_without_the_index() -> None:
    content = archive_bytes(LARGE)
    damaged = bytearray(content)
    damaged[content.index(b"ccc")] ^= 1
    archive = Archive.from_bytes(bytes(damaged))
    part = archive.read(on_error="skip")
    lost = damaged_units(part.payload, part.lengths, part.blocks)
    assert lost.tolist() == [False, False, True, True, False, False, False, False]
    assert part.indexes_crc32c is not None
    assert part.unit_numbers is not None
    assert part.indexes_crc32c[~lost].tolist() == np.array(CHECKSUMS)[~lost].tolist()
    assert part.unit_numbers[~lost].tolist() == np.array(NUMBERS)[~lost].tolist()
    torn = Archive.of_source(BytesSource(content[: content.index(b"INDX")], "x"), recover=True)
    assert same(torn.read(), LARGE)


def test_units_with_and_without_are_not_mixed_in_one_file() -> None:
    for one in ((True, True), (True, False), (False, True), (False, False)):
        for other in ((True, True), (True, False), (False, True), (False, False)):
            first, second = with_flags(INDEXED, *one), with_flags(INDEXED, *other)
            if one == other:
                assert Archive.from_bytes(archive_bytes(first, second)).units == 6
            else:
                with pytest.raises(InvalidRequestError, match=r"archive has (index_checksums|unit_numbers)"):
                    archive_bytes(first, second)
    nothing = SMALL[:0]
    assert same(Archive.from_bytes(archive_bytes(INDEXED, nothing)).read(), INDEXED)


def test_other_archives_keep_their_versions_and_bytes() -> None:
    exact = ExactElements.of(np.arange(6, dtype=np.float32), np.arange(6) % 4 == 1)
    plain, with_exact = archive_bytes(SMALL), archive_bytes(SMALL, exact=[exact], exact_dtype="float32")
    assert (plain[8], with_exact[8]) == (1, 2)
    for content in (plain, with_exact):
        assert b"index_checksums" not in content
        archive = Archive.from_bytes(content)
        assert (archive.index_checksums, archive.unit_numbers) == (False, False)


def leb128(*numbers: int) -> bytes:
    content = b""
    for value in numbers:
        rest = value
        while rest >= 0x80:
            content += bytes([rest & 0x7F | 0x80])
            rest >>= 7
        content += bytes([rest])
    return content


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([], "do not end where they should"),
        ([1], "do not end where they should"),
        ([1, 1], "numbers of 1 units"),
        ([1, 3], "numbers of"),
        ([1, 0, 5, 2], "numbers of"),
        ([1, 1, 9], "do not end where they should"),
        ([2**63 - 1, 2], "more than 63 bits"),
        ([2**64, 2], "63 bits"),
        ([0, 2**62, 0, 2**62, 0, 2**62, 0, 2**62 + 2], "units"),
    ],
)
def test_numbers_that_are_none_of_the_units_are_refused(numbers: list[int], message: str) -> None:
    deflate = zlib.compressobj(wbits=-15)
    packed = deflate.compress(leb128(4, 5, *numbers)) + deflate.flush()
    with pytest.raises(LayoutError, match=message):
        BlockHeader.parse(BLOCK, struct.pack("<QI", 0, 2) + packed, numbered=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"indexes_crc32c": [1]},
        {"unit_numbers": [types_pb2.UnitNumbers(first=0, count=2)]},
        {"unit_numbers": [types_pb2.UnitNumbers(first=0, count=2**40)]},
        {"unit_numbers": [types_pb2.UnitNumbers(first=2**63, count=3)]},
        {"unit_numbers": [types_pb2.UnitNumbers(first=2**64 - 1, count=3)]},
    ],
)
def test_messages_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    message = SMALL.to_message()
    for name, values in changes.items():
        getattr(message, name).extend(values)
    with pytest.raises(InvalidRequestError):
        CompressedTensor.from_message(message)
