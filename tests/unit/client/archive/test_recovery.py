"""Laws of archives that are not whole: what is there is found, and what is known to be missing is told."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd import CorruptStringError, DataLossError
from entropyd.archive import Archive, CompressedTensor, ExactElements, verify
from entropyd.archive.source import BytesSource
from entropyd.archive.verification import Verification, verify_source
from entropyd.contract.integrity import BLOCK_BYTES
from tests.support.archive_cases import EMBEDDED, archive_bytes, same, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Four blocks of 2, 3, 1 and 3 units, the second and the last with exact elements.
SIZES = [32_768, 32_768, *[21_845] * 3, 65_536, 10, 20, 30]
TENSOR = tensor_of([bytes([65 + unit]) * size for unit, size in enumerate(SIZES)], (9,), EMBEDDED)
VALUES = np.arange(18, dtype=np.float32).reshape(9, 2)
MASK = (VALUES == 5) | (VALUES == 6) | (VALUES >= 15)
EXACT = ExactElements.of(VALUES, MASK)
WHOLE = archive_bytes(TENSOR, exact=[EXACT], exact_dtype="float32", model=EMBEDDED)


def chunks(content: bytes) -> list[tuple[bytes, int, int, int]]:
    """Kind, begin, end of the head with its checksum, and end of each chunk; read as docs/archive.md says."""
    found, offset = [], 16
    while offset < len(content) - 28:
        kind, head_bytes, data_bytes = struct.unpack_from("<4sIQ", content, offset)
        data = offset + 20 + head_bytes + 4
        found.append((kind, offset, data, data + data_bytes))
        offset = data + data_bytes
    return found


def recovered(content: bytes) -> Archive:
    return Archive.of_source(BytesSource(content, "x"), recover=True)


def units_at(offset: int) -> int:
    return int(struct.unpack_from("<I", WHOLE, offset + 28)[0])


@settings(max_examples=300)
@given(
    st.integers(0, len(WHOLE) - 1)
    | st.sampled_from([end + d for c in chunks(WHOLE) for end in c[1:] for d in (-1, 0, 1)])
)
def test_a_cut_file_says_what_is_there_and_what_is_known_to_be_missing(length: int) -> None:
    content = WHOLE[:length]
    report = verify_source(BytesSource(content, "x"))
    assert not report.good
    parts = chunks(WHOLE)
    if length < parts[0][3]:
        assert (report.units, report.complete) == (0, False)
        with pytest.raises(DataLossError):
            recovered(content)
        return
    blocks = [part for part in parts if part[0] in {b"BLCK", b"BLKX"}]
    whole = sum(units_at(begin) for _, begin, _, end in blocks if end <= length)
    torn = sum(units_at(begin) for _, begin, data, end in blocks if data <= length < end)
    (index,) = (part for part in parts if part[0] == b"INDX")
    expected = (whole, torn, length >= index[2])
    assert (report.units, report.missing_units, report.complete) == expected
    assert not report.damaged
    with recovered(content) as archive:
        assert (archive.units, archive.missing_units, archive.complete) == expected
        assert same(archive[:], TENSOR[:whole])
        found = archive.exact()
        assert found.positions.tolist() == np.flatnonzero(MASK[:whole]).tolist()
        assert found.values.tolist() == VALUES[:whole][MASK[:whole]].tolist()


def test_recovering_a_whole_file_finds_nothing_missing() -> None:
    with recovered(WHOLE) as archive:
        assert same(archive[:], TENSOR)
        assert archive.complete
        assert archive.missing_units == 0


def test_an_item_that_is_not_whole_is_missing() -> None:
    tensor = tensor_of([b"a" * (BLOCK_BYTES // 2)] * 9, (3, 3))
    content = archive_bytes(tensor)
    blocks = [part for part in chunks(content) if part[0] == b"BLCK"]
    archive = recovered(content[: blocks[2][2] + 5])  # two whole blocks of two units, and the head of a third
    assert archive.batch_shape == (1, 3)
    assert archive.missing_units == 1 + 2
    assert not archive.complete
    report = verify_source(BytesSource(content[: blocks[2][2] + 5], "x"))
    assert (report.units, report.missing_units) == (4, 2)


def test_units_of_a_torn_block_before_whole_ones_are_damaged_not_missing() -> None:
    blocks = [part for part in chunks(WHOLE) if part[0] in {b"BLCK", b"BLKX"}]
    # Of the second block, the head and 7 bytes; then the last one.
    archive = recovered(WHOLE[: blocks[1][2] + 7] + WHOLE[blocks[3][1] : blocks[3][3]])
    assert (archive.units, archive.missing_units, archive.complete) == (9, 0, False)
    with pytest.raises(CorruptStringError) as caught:
        archive[:]
    assert caught.value.units == (2, 3, 4, 5)
    assert same(archive[6:], TENSOR[6:])


@pytest.mark.parametrize(("cut", "is_there"), [(-29, True), (-84, True), (-85, False), (-200, False)])
def test_a_single_unit_is_one_whatever_is_left_of_it(cut: int, is_there: bool) -> None:
    content = archive_bytes(tensor_of([b"a" * 99], ()))
    archive = recovered(content[:cut])
    assert archive.complete
    assert archive.batch_shape == ()
    report = verify_source(BytesSource(content[:cut], "x"))
    assert not report.good
    if is_there:
        assert not report.damaged
        assert archive[()].payload == b"a" * 99
    else:
        assert report.damaged_units == report.units == 1
        with pytest.raises(CorruptStringError):
            archive[()]


def test_what_is_no_archive_is_not_good() -> None:
    for content in (b"", b"something else"):
        report = verify_source(BytesSource(content, "x"))
        assert report == Verification.of_nothing(len(content), *report.problems)
        assert report.problems


# Files that somebody writes to while they are open


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.entropyd"
    path.write_bytes(WHOLE)
    os.utime(path, (1, 1))  # long ago, or a clock of a few milliseconds would not tell the next writing
    return path


def overwrite(path: Path) -> None:
    """By an archive of the same layout: every block is whole, and of other strings."""
    other = tensor_of([bytes([97 + unit]) * size for unit, size in enumerate(SIZES)], (9,), EMBEDDED)
    content = archive_bytes(other, exact=[EXACT], exact_dtype="float32", model=EMBEDDED)
    assert len(content) == len(WHOLE)
    path.write_bytes(content)


def shorten(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


READS: dict[str, Callable[[Archive], object]] = {
    "read": lambda archive: archive.read(5, on_error="skip"),
    "exact": lambda archive: archive.exact(7, on_error="skip"),
    "lengths": lambda archive: list(archive.lengths()),
    "heads": lambda archive: list(archive.block_headers(on_error="skip")),
    "blocks": lambda archive: list(archive.blocks()),
    "model": lambda archive: archive.model,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("change", [overwrite, shorten, empty, extend])
def test_a_file_that_is_changed_while_it_is_open_is_an_error_and_never_other_bytes(
    path: Path, change: Callable[[Path], None], read: str
) -> None:
    with Archive.open(path) as archive:
        assert same(archive[0], TENSOR[0])
        change(path)
        with pytest.raises(DataLossError, match=r"x\.entropyd was changed while it was open"):
            READS[read](archive)


def test_a_file_that_is_replaced_while_it_is_open_is_read_on(path: Path, tmp_path: Path) -> None:
    with Archive.open(path) as archive:
        (tmp_path / "other").write_bytes(b"something else")
        (tmp_path / "other").replace(path)
        assert same(archive[:], TENSOR)


def test_a_file_that_changes_while_it_is_verified_is_not_good(path: Path) -> None:
    assert not verify(path, progress=lambda _: shorten(path)).good


def test_what_cannot_be_read_here_and_there_is_refused(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, WHOLE[:1000])
    os.close(writer)
    for open_it in (Archive.open, Archive.recover, verify):
        with pytest.raises(OSError, match="is not a regular file"):
            open_it(f"/dev/fd/{reader}")
    os.close(reader)
    os.mkfifo(tmp_path / "fifo")  # that nobody writes to
    opens: list[Callable[[Path], Any]] = [Archive.open, Archive.recover, verify, CompressedTensor.load]
    for open_path in opens:
        with pytest.raises(OSError, match="is not a regular file") as caught:
            open_path(tmp_path / "fifo")
        assert caught.value.filename == str(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        Archive.open(tmp_path)
