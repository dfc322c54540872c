"""Laws of bundles: each part is read as an archive of its own would be, and damage has a part and units."""

from __future__ import annotations

import json
import struct
import zlib
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import (
    Archive,
    Bundle,
    CompressedBundle,
    CompressedTensor,
    CorruptStringError,
    DataLossError,
    InvalidRequestError,
    RateReport,
    pack,
)
from entropyd.archive import EmbeddedModel
from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.file_header import MAX_DOCUMENT_BYTES
from entropyd.archive.layout import BLOCK, HEAD, pack_chunk, pack_prefix
from entropyd.archive.source import BytesSource
from entropyd.archive.verification import verify_source
from entropyd.bounded import BoundedTensor
from entropyd.contract.integrity import BLOCK_BYTES
from tests.support import reference_archive
from tests.support.archive_cases import (
    EMBEDDED,
    INDEXED,
    SMALL,
    CountingSource,
    archive_bytes,
    bundle_bytes,
    same,
    tensor_of,
    tensors,
    with_flipped_bits,
)

if TYPE_CHECKING:
    from pathlib import Path

# `z` is one block of one unit; `y` has three blocks of 2, 2 and 1; `w` has no units.
LARGE = tensor_of(
    [bytes([97 + unit]) * (BLOCK_BYTES // 2) for unit in range(5)], (5,), indexes_crc32c=[9, 8, 7, 6, 5]
)
PARTS = {"z": SMALL[:1], "w": SMALL[:0], "y": LARGE}
WHOLE = bundle_bytes(PARTS, {"photo": "coffee"})
NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=3)


def recovered(content: bytes) -> Bundle:
    return Bundle.of_source(BytesSource(content, "x"), recover=True)


def blocks_of(content: bytes) -> list[range]:
    """The bytes of each block, found as docs/archive.md says."""
    found, offset = [], 16
    while offset < len(content) - 28:
        kind, head_bytes, data_bytes = struct.unpack_from("<4sIQ", content, offset)
        end = offset + 20 + head_bytes + 4 + data_bytes
        if kind == b"BLCK":
            found.append(range(offset, end))
        offset = end
    return found


@settings(max_examples=40)
@given(st.dictionaries(NAMES, tensors(), min_size=1, max_size=4), st.data())
def test_a_bundle_restores_its_parts_and_is_indexed_as_they_are(
    parts: dict[str, CompressedTensor], data: st.DataObject
) -> None:
    content = bundle_bytes(parts, {"photo": [1, "x"]})
    with Bundle.from_bytes(content) as bundle:
        assert list(bundle) == list(parts)
        assert bundle.metadata == {"photo": [1, "x"]}
        for name, tensor in parts.items():
            assert same(bundle[name].read(), tensor)
            key = data.draw(hnp.basic_indices(tensor.batch_shape))
            assert same(bundle[name][key], tensor[key])
    assert verify_source(BytesSource(content, "x")).good
    found = reference_archive.read(content)["parts"]
    for name, tensor in parts.items():
        assert found[name]["strings"] == tensor.strings.reshape(-1).tolist()
        for of_units, kind in ((tensor.indexes_crc32c, "checksums"), (tensor.unit_numbers, "numbers")):
            assert found[name][kind] == ([] if of_units is None else of_units.tolist())
    again = recovered(content)
    assert all(same(again[name].read(), tensor) for name, tensor in parts.items())


def test_a_file_is_loaded_as_what_was_packed(tmp_path: Path) -> None:
    pack(PARTS, metadata={"photo": "coffee"}).save(tmp_path / "x")
    loaded = CompressedBundle.load(tmp_path / "x")
    assert list(loaded) == ["z", "w", "y"]
    assert len(loaded) == 3
    assert loaded.metadata == {"photo": "coffee"}
    assert all(same(loaded[name], tensor) for name, tensor in PARTS.items())
    with Bundle.open(tmp_path / "x") as bundle:
        assert (bundle["y"].units, bundle["y"].index_checksums, bundle["w"].batch_shape) == (5, True, (0,))
        assert bundle.file_bytes == (tmp_path / "x").stat().st_size
        with bundle["z"] as part:
            assert same(part[0], SMALL[0])
        assert same(bundle["y"][4], LARGE[4])  # closing a part leaves the file open


def test_two_small_parts_cost_at_most_480_bytes_beyond_their_bit_strings() -> None:
    rng = np.random.default_rng(0)
    parts = {
        name: CompressedTensor(
            rng.bytes(32).hex(),
            rng.bytes(32),
            "float32",
            (1,),
            shape,
            tensor.payload,
            tensor.lengths,
            tensor.blocks,
            RateReport(prod(shape), 0, 4 * prod(shape), len(tensor.payload)),
            checksums,
        )
        for name, shape, tensor, checksums in (
            ("z", (4, 6, 48), tensor_of([b"z" * 120], (1,)), None),
            ("y", (16, 24, 48), tensor_of([b"y" * 9000], (1,)), np.array([7], np.uint32)),
        )
    }
    assert len(bundle_bytes(parts)) - 9120 <= 480
    assert sum(len(archive_bytes(part)) for part in parts.values()) - 9120 > 850


def test_reading_a_selection_of_a_part_reads_its_blocks_and_nothing_else() -> None:
    source = CountingSource(WHOLE)
    bundle = Bundle.of_source(source)
    blocks = blocks_of(WHOLE)
    assert len(blocks) == 4
    source.reads.clear()
    assert same(bundle["y"][2:4], LARGE[2:4])
    assert all(read.start in blocks[2] and read.stop - 1 in blocks[2] for read in source.reads)


# Damage


def test_every_flipped_bit_is_named_by_part_and_units_and_leaves_the_other_parts() -> None:
    parts = {"z": SMALL, "y": INDEXED}
    content = bundle_bytes(parts, {"photo": "coffee"})
    owners = dict(zip(parts, blocks_of(content), strict=True))
    for number, damaged in enumerate(with_flipped_bits(content, step=3)):
        byte = 3 * number // 8
        report = verify_source(BytesSource(damaged, "x"))
        owner = next((name for name, block in owners.items() if byte in block), None)
        if owner is None:
            assert report.problems
            assert not report.damaged
            continue
        assert report.parts[owner].damaged[0][:2] == (0, 2)
        assert [name for name, part in report.parts.items() if part.damaged] == [owner]
        bundle = Bundle.from_bytes(damaged)
        with pytest.raises(CorruptStringError, match=f"coding units 0, 1, 2 of part {owner} of") as caught:
            bundle[owner].read()
        assert caught.value.units == (0, 1, 2)
        (other,) = parts.keys() - {owner}
        assert same(bundle[other].read(), parts[other])


@given(
    st.integers(0, len(WHOLE) - 1) | st.sampled_from([b.stop + d for b in blocks_of(WHOLE) for d in (-1, 0)])
)
def test_a_cut_bundle_gives_back_what_is_there_and_says_what_is_missing(length: int) -> None:
    content = WHOLE[:length]
    report = verify_source(BytesSource(content, "x"))
    assert not report.good
    blocks = blocks_of(WHOLE)
    if length < blocks[0].start:
        assert not report.parts
        with pytest.raises(DataLossError):
            recovered(content)
        return
    found = [block for block in blocks if block.stop <= length]
    units = {"z": min(len(found), 1), "w": 0, "y": sum((2, 2, 1)[: max(len(found) - 1, 0)])}
    bundle = recovered(content)
    for name, tensor in PARTS.items():
        part = report.parts[name]
        assert (part.units, part.missing_units) == (units[name], len(tensor) - units[name])
        assert (part.damaged, part.complete) == ((), part.missing_units == 0)
        archive = bundle[name]
        assert (archive.units, archive.missing_units, archive.complete) == (
            part.units,
            part.missing_units,
            part.complete,
        )
        assert same(archive.read(), tensor[: units[name]])
    assert report.missing_units == sum(part.missing_units for part in report.parts.values())


def test_units_of_lost_blocks_are_damaged_in_their_own_parts() -> None:
    parts = {"a": LARGE[:2], "b": tensor_of([b"b"], ()), "c": LARGE[:1], "d": LARGE[2:]}
    content = bundle_bytes(parts)
    blocks = blocks_of(content)
    # The end of `a`, all of `b` and `c`, and the first block of `d` are overwritten, and the index is gone.
    lost = range(blocks[0].start, blocks[3].stop)
    torn = content[: lost.start] + bytes(len(lost)) + content[lost.stop : content.index(b"INDX")]
    report = verify_source(BytesSource(torn, "x"))
    expected: dict[str, list[tuple[int, int]]] = {"a": [(0, 1)], "b": [(0, 0)], "c": [(0, 0)], "d": [(0, 1)]}
    assert {name: [run[:2] for run in part.damaged] for name, part in report.parts.items()} == expected
    assert [run[:2] for run in report.damaged] == [(0, 1), (2, 2), (3, 3), (4, 5)]
    assert report.complete
    bundle = recovered(torn)
    assert same(bundle["d"][2], LARGE[4])
    for name in "abc":
        with pytest.raises(CorruptStringError, match=f"part {name} of x"):
            bundle[name].read()


def test_a_single_unit_without_batch_axes_is_one_whatever_is_left_of_it() -> None:
    content = bundle_bytes({"z": SMALL, "y": tensor_of([b"y" * 9], ())})
    torn = content[: blocks_of(content)[1].start]
    bundle = recovered(torn)
    assert same(bundle["z"].read(), SMALL)
    assert bundle["y"].batch_shape == ()
    assert verify_source(BytesSource(torn, "x")).parts["y"].damaged_units == 1
    with pytest.raises(CorruptStringError):
        bundle["y"].read()


# Models


def with_tables(step: int) -> EmbeddedModel:
    cdf = np.array([-4, 0, step, 12, 15, 16], np.int32)
    return EmbeddedModel(EMBEDDED.config, cdf, EMBEDDED.cdf_offset)


def test_each_part_finds_its_model_also_beside_a_damaged_one() -> None:
    models = [with_tables(1), with_tables(2)]
    parts = {name: tensor_of([b"a"], (1,), model) for name, model in zip("zy", models, strict=True)}
    content = bundle_bytes({**parts, "w": SMALL}, models=[*models, models[0]])
    assert content.count(b"MODL") == 2
    assert len(reference_archive.read(content)["models"]) == 2
    bundle = Bundle.from_bytes(content)
    assert bundle["w"].model is None
    for name, model in zip("zy", models, strict=True):
        found = bundle[name].model
        assert found is not None
        assert found.tables_digest == model.tables_digest
    damaged = bytearray(content)
    damaged[content.index(b"MODL") + 50] ^= 1
    assert verify_source(BytesSource(bytes(damaged), "x")).problems
    bundle = Bundle.from_bytes(bytes(damaged))
    assert bundle["y"].model is not None
    with pytest.raises(DataLossError, match="embedded model"):
        assert bundle["z"].model


# Refusals


def test_what_is_no_bundle_is_refused() -> None:
    bounded = object.__new__(BoundedTensor)
    refusals: list[tuple[Any, str]] = [
        ({}, "has no parts"),
        ({"": SMALL}, "has a part named ''; expected printable text"),
        ({"a\n": SMALL}, "expected printable text"),
        ({1: SMALL}, "has a part named 1"),
        ({"y": SMALL, "z": bounded}, "part z is of type BoundedTensor; expected a CompressedTensor"),
        ({"z": b"strings"}, "part z is of type bytes"),
    ]
    for parts, message in refusals:
        with pytest.raises(InvalidRequestError, match=message):
            pack(parts)
    for metadata in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(InvalidRequestError, match="metadata are not JSON"):
            pack(PARTS, metadata=metadata)
    with pytest.raises(InvalidRequestError, match=f"expected at most {MAX_DOCUMENT_BYTES}"):
        pack(PARTS, metadata={"a": "x" * MAX_DOCUMENT_BYTES})


def test_a_bundle_that_could_not_be_decoded_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidRequestError, match=f"include {EMBEDDED.model_id}, which no part was made with"
    ):
        pack(PARTS).save(tmp_path / "x", models=[EMBEDDED])
    message = SMALL.to_message()
    message.blocks[0].crc32c ^= 1
    damaged = CompressedTensor.from_message(message)
    with pytest.raises(CorruptStringError, match="coding units 0, 1, 2 of part y do not match"):
        pack({"z": SMALL, "y": damaged}).save(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_archives_and_bundles_are_not_taken_for_one_another(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "one")
    pack(PARTS).save(tmp_path / "several")
    message = r"several is a bundle of parts z, w, y; CompressedBundle\.load reads it"
    for read in (Archive.open, Archive.recover, CompressedTensor.load, BoundedTensor.load):
        with pytest.raises(InvalidRequestError, match=message):
            read(tmp_path / "several")
    for opened in (Bundle.open, Bundle.recover, CompressedBundle.load):
        with pytest.raises(InvalidRequestError, match="one is an archive of one tensor"):
            opened(tmp_path / "one")


ROW = ["z", "ab" * 32, "07" * 32, "float32", [2], [4, 1], None, False, False]


def file_of(document: Any, *blocks: bytes) -> bytes:
    """A bundle of version 4 with that header, without its end."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = deflate.compress(document if isinstance(document, bytes) else json.dumps(document).encode())
    return b"".join((pack_prefix(4), pack_chunk(HEAD, head + deflate.flush()), *blocks))


@pytest.mark.parametrize(
    "document",
    [
        {"parts": [], "metadata": {}},
        {"parts": [ROW, ROW], "metadata": {}},
        {"parts": [ROW[:-1]], "metadata": {}},
        {"parts": [["\x1b[2J", *ROW[1:]]], "metadata": {}},
        {"parts": [ROW]},
        {"parts": [[*ROW[:4], [2**60], *ROW[5:]]], "metadata": {}},
        {"parts": [[name, *ROW[1:4], [2**59], *ROW[5:]] for name in "ab"], "metadata": {}},
        {"parts": [[*ROW[:7], 1, False]], "metadata": {}},
        {"parts": 3, "metadata": {}},
        [],
        b"no JSON",
        b" " * (MAX_DOCUMENT_BYTES + 1),
    ],
)
def test_a_header_that_makes_no_sense_is_damage(document: Any) -> None:
    content = file_of(document)
    assert "header" in verify_source(BytesSource(content, "x")).problems[0]
    with pytest.raises(DataLossError, match="header"):
        recovered(content)


def test_a_header_of_more_units_than_there_are_takes_no_memory_for_them() -> None:
    content = file_of({"parts": [[*ROW[:4], [2**58], *ROW[5:]]], "metadata": {}, "later": 1})
    assert recovered(content)["z"].missing_units == 2**58


def test_a_reader_ignores_what_later_versions_may_add_to_the_header() -> None:
    assert list(recovered(file_of({"parts": [[*ROW, "more"]], "metadata": {}, "later": 1}))) == ["z"]


def test_a_block_of_several_parts_is_none() -> None:
    lengths = np.array([1, 1, 1], np.uint32)
    header = BlockHeader(0, lengths)
    block = pack_chunk(BLOCK, header.pack(), b"abc")
    bundle = recovered(file_of({"parts": [ROW, ["y", *ROW[1:]]], "metadata": {}}, block))
    assert (bundle["z"].units, bundle["y"].units) == (0, 0)
