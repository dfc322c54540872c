"""Laws of archives: a file gives back what was appended, in whatever parts, and never hides damage."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import CompressedTensor, CorruptStringError, DataLossError, InvalidRequestError
from entropyd.archive import Archive, ArchiveWriter, EmbeddedModel, verify
from entropyd.archive.layout import LayoutError
from entropyd.archive.source import BytesSource
from entropyd.archive.verification import verify_source
from entropyd.contract.integrity import BLOCK_BYTES, MAX_BLOCK_UNITS, damaged_units
from tests.support.archive_cases import (
    EMBEDDED,
    SMALL,
    CountingSource,
    archive_bytes,
    random_strings,
    same,
    tensor_of,
    tensors,
    with_flipped_bits,
)

# Five blocks, the last two of several units.
LARGE = tensor_of([b"a" * BLOCK_BYTES, b"b" * BLOCK_BYTES, b"c" * BLOCK_BYTES, *([b"d" * 20_000] * 5)], (8,))


@given(tensors())
def test_a_file_restores_its_tensor(tensor: CompressedTensor) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.entropyd"
        tensor.save(str(path))
        restored = CompressedTensor.load(path)
    assert same(restored, tensor)
    assert restored.strings.shape == tensor.batch_shape
    assert restored.strings.tolist() == tensor.strings.tolist()


@given(tensors().filter(lambda tensor: len(tensor.batch_shape) > 0), st.data())
def test_an_archive_is_the_same_in_however_many_parts_it_was_appended(
    tensor: CompressedTensor, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(tensor)), max_size=4)))
    borders = [0, *cuts, len(tensor)]
    parts = [tensor[a:b] for a, b in pairwise(borders)]
    assert archive_bytes(*parts) == archive_bytes(tensor)


@given(tensors().filter(lambda tensor: len(tensor.batch_shape) > 0), st.data())
def test_an_archive_is_indexed_as_its_tensor_is(tensor: CompressedTensor, data: st.DataObject) -> None:
    key = data.draw(hnp.basic_indices(tensor.batch_shape))
    assert same(Archive.from_bytes(archive_bytes(tensor))[key], tensor[key])


@given(st.lists(st.booleans(), min_size=8, max_size=8), st.lists(st.integers(-8, 7), max_size=9))
def test_masks_and_lists_of_items_select_as_in_memory(mask: list[bool], items: list[int]) -> None:
    archive = Archive.from_bytes(archive_bytes(LARGE))
    for key in (np.array(mask), np.array(items, np.int64)):
        assert same(archive[key], LARGE[key])
    assert same(archive[items], LARGE[np.array(items, np.int64)])


@pytest.mark.parametrize("key", [8, -9, (0, 0), "a", 1.5, (..., ...), None, [[0]], slice("a"), [9]])
def test_a_key_that_makes_no_sense_is_refused(key: Any) -> None:
    with pytest.raises(IndexError):
        Archive.from_bytes(archive_bytes(LARGE))[key]


def test_an_archive_says_what_it_holds() -> None:
    content = archive_bytes(LARGE, metadata={"camera": "left", "gain": [1, 2.5]})
    with Archive.from_bytes(content) as archive:
        assert len(archive) == archive.units == 8
        assert (archive.batch_shape, archive.broadcast_shape) == ((8,), (4, 1))
        assert (archive.model_id, archive.tables_digest, archive.dtype) == (
            "ab" * 32,
            b"\x07" * 32,
            "float32",
        )
        assert archive.metadata == {"camera": "left", "gain": [1, 2.5]}
        assert archive.model is None
        assert archive.file_bytes == len(content)
        assert np.concatenate(list(archive.lengths())).tolist() == LARGE.lengths.tolist()
        assert [(b.first_unit, b.end_unit) for b in archive.blocks()] == [
            (0, 1),
            (1, 2),
            (2, 3),
            (3, 6),
            (6, 8),
        ]


def test_a_single_coding_unit_without_batch_axes_is_an_archive_of_its_own() -> None:
    alone = tensor_of([b"abc"], ())
    archive = Archive.from_bytes(archive_bytes(alone))
    assert same(archive[()], alone)
    assert same(archive[...], alone)
    with pytest.raises(TypeError):
        len(archive)
    with pytest.raises(InvalidRequestError, match="takes no other"):
        archive_bytes(alone, alone)


@pytest.mark.parametrize(
    ("mean_bytes", "deviation_bytes", "most_overhead"),
    [(1000, 40, 0.005), (1000, 0, 0.005), (16, 1, 0.03), (16, 2, 0.03)],
)
def test_overhead_is_small_whatever_the_size_of_a_unit(
    mean_bytes: float, deviation_bytes: float, most_overhead: float
) -> None:
    units = int(4 * 2**20 / mean_bytes)
    tensor = tensor_of(random_strings(units, mean_bytes, deviation_bytes), (units,))
    overhead = len(archive_bytes(tensor)) / len(tensor.payload) - 1
    assert overhead < most_overhead


@given(
    st.lists(
        st.integers(0, 300) | st.sampled_from([127, 128, 16383, 16384, BLOCK_BYTES + 1]),
        min_size=1,
        max_size=40,
    )
)
def test_lengths_of_every_size_are_kept(lengths: list[int]) -> None:
    tensor = tensor_of([b"x" * length for length in lengths], (len(lengths),))
    archive = Archive.from_bytes(archive_bytes(tensor))
    assert np.concatenate(list(archive.lengths())).tolist() == lengths
    assert same(archive[:], tensor)


def test_blocks_are_bounded_in_units_too() -> None:
    tensor = tensor_of([b""] * (MAX_BLOCK_UNITS + 5), (MAX_BLOCK_UNITS + 5,))
    content = archive_bytes(tensor)
    assert [len(block.lengths) for block in Archive.from_bytes(content).blocks()] == [MAX_BLOCK_UNITS, 5]
    assert len(content) < 2000


# Damage


@pytest.fixture(scope="module")
def small_archive() -> bytes:
    """Two blocks, an embedded model, metadata."""
    tensor = tensor_of([b"\x01\x02", b"", b"x" * BLOCK_BYTES], (3,), EMBEDDED)
    # The large unit is there to make a second block; only its ends are flipped below.
    return archive_bytes(tensor, metadata={"a": 1}, model=EMBEDDED)


def test_every_flipped_bit_is_detected_or_harmless(small_archive: bytes) -> None:
    good = Archive.from_bytes(small_archive)[:]
    middle = small_archive.index(b"x" * 1000)
    flips, refused, named = 0, 0, 0
    for content in with_flipped_bits(small_archive, between=range(middle + 8, middle + BLOCK_BYTES - 8)):
        flips += 1
        assert not verify_source(BytesSource(content, "x")).good
        try:
            archive = Archive.from_bytes(content)
            part = archive.read(on_error="skip")
        except (DataLossError, InvalidRequestError):
            refused += 1
            continue
        bad = damaged_units(part.payload, part.lengths, part.blocks)
        named += bool(bad.any())
        for unit in np.flatnonzero(~bad):
            assert part.strings[unit] == good.strings[unit]
        try:
            assert archive.model is not None
        except DataLossError:
            named += 1
    assert refused + named == flips > 8 * 500


def test_every_cut_and_every_addition_is_noticed(tmp_path: Path) -> None:
    content = archive_bytes(SMALL, metadata={"a": 1})
    path = tmp_path / "damaged"
    for damaged in [*(content[:length] for length in range(len(content))), content + b"\0", content * 2]:
        path.write_bytes(damaged)
        with pytest.raises(DataLossError):
            CompressedTensor.load(path)
        assert not verify(path).good


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_archive(content: bytes) -> None:
    for start in (b"", b"\x89ENTR\r\n\x1a", archive_bytes(SMALL)[:16]):
        for opener in (Archive.from_bytes, lambda c: Archive.of_source(BytesSource(c, "x"), recover=True)):
            with pytest.raises((DataLossError, InvalidRequestError)):
                opener(start + content)
        assert not verify_source(BytesSource(start + content, "x")).good


@given(st.data())
def test_any_mixture_of_pieces_is_read_or_refused_and_never_invented(data: st.DataObject) -> None:
    content = archive_bytes(LARGE[3:], metadata={"a": 1})
    pieces = [
        content[a:b] for a, b in [(0, 16), (16, 200), (200, 9000), (9000, 61000), (61000, len(content))]
    ]
    mixed = b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=6)))
    try:
        archive = Archive.of_source(BytesSource(mixed, "x"), recover=True)
        part = archive.read(on_error="skip")
    except DataLossError:
        return
    bad = damaged_units(part.payload, part.lengths, part.blocks)
    assert all(string == b"d" * 20_000 for string in part.strings[~bad])


def test_a_newer_version_is_refused_with_a_clear_message(tmp_path: Path) -> None:
    content = bytearray(archive_bytes(SMALL))
    content[8:12] = struct.pack("<I", 5)
    content[12:16] = struct.pack("<I", google_crc32c.value(bytes(content[:12])))
    (tmp_path / "newer").write_bytes(content)
    message = r"newer has format version 5; this version of entropyd knows 1 to 4: upgrade entropyd"
    for opener in (Archive.open, Archive.recover, CompressedTensor.load):
        with pytest.raises(InvalidRequestError, match=message):
            opener(tmp_path / "newer")


def test_a_damaged_block_costs_its_own_units_only() -> None:
    content = bytearray(archive_bytes(LARGE))
    content[content.index(b"ccc")] ^= 1
    archive = Archive.from_bytes(bytes(content))
    assert same(archive[:2], LARGE[:2])
    assert same(archive[3:], LARGE[3:])
    with pytest.raises(CorruptStringError, match=r"coding units 2 of .* do not match") as caught:
        archive[1:4]
    assert caught.value.units == (2,)
    part = archive.read(slice(1, 5), on_error="skip")
    assert damaged_units(part.payload, part.lengths, part.blocks).tolist() == [False, True, False, False]


def test_what_is_no_policy_for_damage_is_refused() -> None:
    archive = Archive.from_bytes(archive_bytes(SMALL))
    unknown: Any = "ignore"
    for read in (
        archive.read,
        archive.exact,
        lambda on_error: list(archive.block_headers(on_error=on_error)),
    ):
        with pytest.raises(InvalidRequestError, match="on_error is 'ignore'; expected 'raise' or 'skip'"):
            read(on_error=unknown)


def test_reading_an_item_reads_its_block_and_nothing_else() -> None:
    content = archive_bytes(LARGE)
    source = CountingSource(content)
    archive = Archive.of_source(source)
    source.reads.clear()
    assert same(archive[1], LARGE[1])
    block = range(content.index(b"BLCK", content.index(b"aaa")), content.index(b"b" * 99) + BLOCK_BYTES)
    assert all(read.start >= block.start and read.stop <= block.stop for read in source.reads)
    assert sum(map(len, source.reads)) == len(block)


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    LARGE.save(tmp_path / "x")
    with Archive.open(tmp_path / "x") as archive, ThreadPoolExecutor(8) as threads:
        for unit, part in zip(
            list(range(8)) * 20, threads.map(archive.read, list(range(8)) * 20), strict=True
        ):
            assert same(part, LARGE[unit])


# Writing


def test_saving_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.entropyd"
    tensor_of([b"zz"], (1,)).save(path)
    SMALL.save(path)
    assert same(CompressedTensor.load(path), SMALL)
    assert os.listdir(tmp_path) == ["x.entropyd"]  # noqa: PTH208 - hidden files count
    expected = tmp_path / "other"
    expected.touch()
    assert path.stat().st_mode == expected.stat().st_mode


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SMALL.save(tmp_path / "x.entropyd")
    before = (tmp_path / "x.entropyd").read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        tensor_of([b"zz"], (1,)).save(tmp_path / "x.entropyd")
    assert (tmp_path / "x.entropyd").read_bytes() == before
    assert os.listdir(tmp_path) == ["x.entropyd"]  # noqa: PTH208


def test_an_error_of_the_caller_takes_the_archive_back(tmp_path: Path) -> None:
    def fails_halfway() -> None:
        with ArchiveWriter(tmp_path / "x") as writer:
            writer.append(SMALL)
            raise KeyError("the caller's")

    with pytest.raises(KeyError):
        fails_halfway()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_damage_is_not_written_under_a_good_checksum() -> None:
    message = SMALL.to_message()
    message.payload = b"\x01\x02\x03\x01"
    with pytest.raises(CorruptStringError):
        archive_bytes(CompressedTensor.from_message(message))


@pytest.mark.parametrize(
    "other",
    [
        tensor_of([b"a"], (1,), EMBEDDED),
        tensor_of([b"a"], (1, 1)),
        tensor_of([b"a"], ()),
    ],
)
def test_a_tensor_that_does_not_fit_the_ones_before_is_refused(other: CompressedTensor) -> None:
    with pytest.raises(InvalidRequestError, match="archive has"):
        archive_bytes(SMALL, other)


def test_an_archive_of_nothing_needs_a_tensor_to_say_what_kind_of_nothing() -> None:
    with pytest.raises(InvalidRequestError, match="append at least one"):
        archive_bytes()
    assert Archive.from_bytes(archive_bytes(SMALL[:0])).batch_shape == (0,)


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {"x": b"bytes"}, {"x": "y" * 9_000_000}])
def test_metadata_that_are_no_json_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="metadata"):
        ArchiveWriter(BytesIO(), metadata=metadata)


def test_a_file_that_is_not_there_is_the_callers_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Archive.open(tmp_path / "nothing")


# The embedded model


def test_an_embedded_model_comes_back_with_its_identity() -> None:
    tensor = tensor_of([b"a"], (1,), EMBEDDED)
    model = Archive.from_bytes(archive_bytes(tensor, model=EMBEDDED)).model
    assert model is not None
    assert model.config == EMBEDDED.config
    assert (model.model_id, model.tables_digest) == (EMBEDDED.model_id, EMBEDDED.tables_digest)
    assert model.cdf.tolist() == EMBEDDED.cdf.tolist()
    assert model.cdf_offset.tolist() == EMBEDDED.cdf_offset.tolist()


def test_another_model_than_the_tensors_is_not_embedded() -> None:
    with pytest.raises(InvalidRequestError, match="embeds model"):
        archive_bytes(SMALL, model=EMBEDDED)


@pytest.mark.parametrize(
    "sizes", [(2**31, 6, 1, 0), (9, 2**28, 1, 0), (9, 6, 2**31, 0), (9, 6, 7, 0), (9, 6, 1, 2**31)], ids=str
)
def test_an_embedded_model_that_states_more_than_any_has_takes_no_memory(
    sizes: tuple[int, int, int, int],
) -> None:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflate.compress(bytes(2**26)) + deflate.flush()
    tracemalloc.start()
    with pytest.raises(LayoutError, match=r"it states \d+ bytes of configuration"):
        EmbeddedModel.parse(struct.pack("<IQII", *sizes), data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


# Torn and large files

WRITES_FOR_EVER = """
import sys
from entropyd.archive import ArchiveWriter
from tests.support.archive_cases import random_strings, tensor_of
with ArchiveWriter(sys.argv[1]) as writer:
    for number in range(1_000_000):
        writer.append(tensor_of(random_strings(100, 1000, 30, seed=number), (100,)))
        if number == 9:
            print("written", flush=True)
"""


def test_what_a_killed_writer_left_is_recognised_and_its_blocks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.entropyd"
    command = [sys.executable, "-c", WRITES_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    (left,) = tmp_path.iterdir()
    with pytest.raises(DataLossError, match="is not complete"):
        Archive.open(left)
    report = verify(left)
    assert not report.good
    assert report.units >= 900
    with Archive.recover(left) as archive:
        assert not archive.complete
        assert 900 <= len(archive) == report.units
        for start in range(0, 900, 100):
            expected = random_strings(100, 1000, 30, seed=start // 100)
            assert archive[start : start + 100].strings.tolist() == expected


@pytest.mark.parametrize("cut", [0.99, 0.7, 0.5, 0.1])
def test_every_block_before_a_cut_is_recovered(cut: float) -> None:
    content = archive_bytes(LARGE)
    archive = Archive.of_source(BytesSource(content[: int(cut * len(content))], "x"), recover=True)
    assert same(archive[:], LARGE[: len(archive)])
    assert len(archive) in {8, 6, 3, 2, 0}


def test_units_between_blocks_that_can_be_found_are_damaged_not_renumbered() -> None:
    content = bytearray(archive_bytes(LARGE))
    content[content.index(b"BLCK", content.index(b"aaa")) + 5] ^= 1  # the head of the second block
    content[-40] ^= 1  # the index
    with pytest.raises(DataLossError, match="index"):
        Archive.from_bytes(bytes(content))
    archive = Archive.of_source(BytesSource(bytes(content), "x"), recover=True)
    assert len(archive) == 8
    assert same(archive[2:], LARGE[2:])
    with pytest.raises(CorruptStringError) as caught:
        archive[:]
    assert caught.value.units == (1,)


LARGER_THAN_MEMORY = """
import resource, sys
from entropyd.archive import Archive, ArchiveWriter, verify
from tests.support.archive_cases import random_strings, tensor_of

limit = 64 * 2**20  # on top of what the interpreter and its libraries have taken
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
part = tensor_of(random_strings(4096, 1024, 30), (4096,))
with ArchiveWriter(sys.argv[1]) as writer:
    for _ in range(48):
        writer.append(part)
with Archive.open(sys.argv[1]) as archive:
    assert archive.file_bytes > 3 * limit, archive.file_bytes
    assert len(archive) == 48 * 4096
    assert archive[-1].payload == part[-1].payload
    assert archive[100_000:100_010].payload == part[100_000 % 4096 :][:10].payload
    assert sum(len(block.payload) for block in archive.blocks()) == 48 * len(part.payload)
assert verify(sys.argv[1]).good
with Archive.recover(sys.argv[1]) as archive:
    assert len(archive) == 48 * 4096
try:
    bytearray(2 * limit)
except MemoryError:
    print("within", limit)
"""


def test_files_larger_than_memory_are_written_and_read(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LARGER_THAN_MEMORY, str(tmp_path / "x.entropyd")]
    # numpy's threads would each take address space for a stack.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=Path.cwd()
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("within")
