"""Laws of archives that exist: they decode to what they always did, by two independent readers."""

from __future__ import annotations

import json
import re
import struct
import zlib
from bisect import bisect_right
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import pytest

from entropyd import Bundle
from entropyd.archive import Archive, ExactElements, verify
from entropyd.archive.source import BytesSource
from entropyd.archive.verification import verify_source
from entropyd.bounded import ErrorBound
from entropyd.contract.integrity import BLOCK_BYTES
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.tables import CodingTables
from tests.golden.archives import write
from tests.support import reference_archive
from tests.support.archive_cases import (
    EMBEDDED,
    INDEXED,
    SMALL,
    archive_bytes,
    bundle_bytes,
    tensor_of,
    with_flipped_bits,
)

if TYPE_CHECKING:
    from entropyd import CompressedTensor, EmbeddedModel

FOLDER = Path(write.__file__).parent
FILES = sorted(FOLDER.glob("*.entropyd"))
ARCHIVES = [path for path in FILES if path.stem not in write.BUNDLES]
BUNDLES = [path for path in FILES if path.stem in write.BUNDLES]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "archive.md").read_text()


def block_of_page(label: str) -> str:
    """The fenced block of the page that is labelled so."""
    (found,) = re.findall(rf"^```\w+ {label}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_case_has_its_golden_archive() -> None:
    assert {path.stem for path in FILES} == write.NAMES


def decoded(model: EmbeddedModel, compressed: CompressedTensor, stem: str, first_unit: int) -> Any:
    """The array of bit strings, by the indexes in the file of that stem if the model has any."""
    codec = codec_of(model.config, CodingTables.parse(*model._tables))
    rows = rows_of(codec, compressed, model.config, stem, first_unit)
    decoded = codec.decode(compressed.payload, compressed.lengths, rows)
    assert not decoded.statuses.any()
    return decoded.values.view(model.config.bottleneck_dtype)


def rows_of(codec: Any, compressed: CompressedTensor, config: Any, stem: str, first_unit: int) -> Any:
    if config.index_ranges is None:
        assert compressed.indexes_crc32c is None
        return codec.rows(compressed.broadcast_shape)
    indexes = np.load(FOLDER / f"{stem}.indexes.npy")
    units = len(compressed.lengths)
    if config.channel_axis is not None:
        indexes = np.ravel_multi_index(tuple(np.moveaxis(indexes, -1, 0)), config.index_ranges)
    plane = indexes.astype(np.uint8).reshape(units, -1)
    expected = [google_crc32c.value(unit.tobytes()) for unit in plane]
    assert compressed.indexes_crc32c is not None
    assert compressed.indexes_crc32c.tolist() == expected
    assert (compressed.unit_numbers is not None) == (config.kind == "universal_indexed")
    numbers = np.arange(units) if compressed.unit_numbers is None else compressed.unit_numbers
    assert numbers.tolist() == [*range(first_unit, first_unit + units)]
    return codec.rows_of(plane, compressed.broadcast_shape, numbers)


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_a_golden_archive_decodes_with_nothing_but_itself(path: Path) -> None:
    expected = np.load(path.with_suffix(".npy"))
    with Archive.open(path) as archive:
        model, compressed, exact = archive.model, archive.read(), archive.exact()
        bound = ErrorBound.of(archive.metadata)
        assert bound == write.BOUNDS.get(path.stem)
        if bound is None:
            assert archive.metadata == (write.CASES[path.stem][3] if path.stem in write.CASES else {})
        assert (archive.exact_dtype is not None) == (path.stem in write.WITH_EXACT)
    assert model is not None
    first_unit = write.INDEXED[path.stem][2] if path.stem in write.INDEXED else 0
    values = decoded(model, compressed, path.stem, first_unit).reshape(expected.shape)
    restored = values if bound is None else bound.data(values)
    assert exact.applied(restored).tobytes() == expected.tobytes()
    assert (restored.tobytes() != expected.tobytes()) == (path.stem in write.WITH_EXACT)
    assert compressed.batch_shape == expected.shape[: expected.ndim - model.config.coding_rank]
    assert verify(path).good


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_golden_bundle_decodes_with_nothing_but_itself(path: Path) -> None:
    parts = write.BUNDLES[path.stem]
    with Bundle.open(path) as bundle:
        assert list(bundle) == list(parts)
        assert bundle.metadata == write.BUNDLE_METADATA
        for name, (_, shape, first_unit) in parts.items():
            model, compressed, stem = bundle[name].model, bundle[name].read(), f"{path.stem}.{name}"
            assert model is not None
            expected = np.load(FOLDER / f"{stem}.npy")
            assert expected.shape == shape
            assert decoded(model, compressed, stem, first_unit).tobytes() == expected.tobytes()
            assert compressed.batch_shape == shape[: len(shape) - model.config.coding_rank]
    assert verify(path).good


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_reader_written_from_the_page_finds_the_same_parts(path: Path) -> None:
    found = reference_archive.read(path.read_bytes())
    with Bundle.open(path) as bundle:
        assert found["header"]["metadata"] == bundle.metadata
        assert list(found["parts"]) == list(bundle)
        for name, part in found["parts"].items():
            compressed = bundle[name].read()
            assert part["strings"] == compressed.strings.reshape(-1).tolist()
            for of_units, kind in (
                (compressed.indexes_crc32c, "checksums"),
                (compressed.unit_numbers, "numbers"),
            ):
                assert part[kind] == ([] if of_units is None else of_units.tolist())
        models = {model.tables_digest.hex() for part in bundle.values() if (model := part.model) is not None}
    assert {reference_archive.tables_digest(model) for model in found["models"]} == models
    assert len(found["models"]) == len(models)


def test_every_flipped_bit_of_a_golden_bundle_is_named() -> None:
    content = (FOLDER / "bundle.entropyd").read_bytes()
    blocks = [content.index(b"BLCK"), content.rindex(b"BLCK"), content.index(b"INDX")]
    step = 61  # every place of a bit in a byte
    for number, damaged in enumerate(with_flipped_bits(content, step=step)):
        report = verify_source(BytesSource(damaged, "x"))
        parts = {name: part.damaged for name, part in report.parts.items() if part.damaged}
        place = bisect_right(blocks, step * number // 8)
        if place in {1, 2}:
            (name,) = parts
            assert name == "zy"[place - 1]
            assert [run[:2] for run in parts[name]] == [(0, 1)]
        else:
            assert report.problems
            assert not parts


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_a_reader_written_from_the_page_finds_the_same(path: Path) -> None:
    found = reference_archive.read(path.read_bytes())
    with Archive.open(path) as archive:
        model, compressed, exact = archive.model, archive.read(), archive.exact()
        assert found["header"]["metadata"] == archive.metadata
        assert found["header"]["symbols_per_unit"] == archive.symbols_per_unit
        assert (found["items"], *found["header"]["batch_shape"][1:])[: len(archive.batch_shape)] == (
            archive.batch_shape
        )
    assert found["strings"] == compressed.strings.reshape(-1).tolist()
    for of_units, name in ((compressed.indexes_crc32c, "checksums"), (compressed.unit_numbers, "numbers")):
        assert found[name] == ([] if of_units is None else of_units.tolist())
    positions, values = exact.positions.tolist(), exact.values
    assert found["exact"] == list(zip(positions, (value.tobytes() for value in values), strict=True))
    assert model is not None
    (embedded,) = found["models"]
    assert embedded["config"] == model.config.canonical_json
    assert embedded["cdf"] == tuple(model.cdf.tolist())
    assert embedded["cdf_offset"] == tuple(model.cdf_offset.tolist())


def test_the_worked_example_of_a_bundle_holds() -> None:
    content = bytes.fromhex(re.sub(r"#.*", "", block_of_page("bundle-bytes")))
    found, expected = reference_archive.read(content), json.loads(block_of_page("bundle-found"))
    assert found["header"] == expected["header"]
    bundle = Bundle.from_bytes(content)
    assert list(bundle) == list(expected["parts"])
    for name, part in expected["parts"].items():
        assert [string.hex() for string in found["parts"][name]["strings"]] == part["strings"]
        assert found["parts"][name]["checksums"] == part.get("checksums", [])
        whole = bundle[name].read()
        assert [string.hex() for string in whole.strings] == part["strings"]
        checksums = whole.indexes_crc32c
        assert (None if checksums is None else checksums.tolist()) == part.get("checksums")


@pytest.mark.parametrize("example", ["", "exact-", "indexed-"])
def test_the_worked_examples_of_the_page_hold(example: str) -> None:
    content = bytes.fromhex(re.sub(r"#.*", "", block_of_page(f"{example}bytes")))
    found = reference_archive.read(content)
    expected = json.loads(block_of_page(f"{example}found"))
    assert found["header"] == expected["header"]
    assert [string.hex() for string in found["strings"]] == expected["strings"]
    assert [[position, value.hex()] for position, value in found["exact"]] == expected.get("exact", [])
    assert found["items"] == expected["items"]
    assert found["checksums"] == expected.get("checksums", [])
    assert found["numbers"] == expected.get("numbers", [])
    archive = Archive.from_bytes(content)
    whole = archive[:]
    assert [string.hex() for string in whole.strings] == expected["strings"]
    for of_units, name in ((whole.indexes_crc32c, "checksums"), (whole.unit_numbers, "numbers")):
        assert (None if of_units is None else of_units.tolist()) == expected.get(name)
    exact = archive.exact()
    values = [value.tobytes().hex() for value in exact.values]
    assert [list(pair) for pair in zip(exact.positions.tolist(), values, strict=True)] == expected.get(
        "exact", []
    )


def test_the_page_names_every_size_and_mark_as_they_are() -> None:
    exact = ExactElements.of(np.ones((2, 1), np.float32), np.array([[True], [False]]))
    content = archive_bytes(
        tensor_of([b"a", b"b" * BLOCK_BYTES], (2,), EMBEDDED),
        model=EMBEDDED,
        exact=[exact],
        exact_dtype="float32",
    )
    for kind in (b"HEAD", b"MODL", b"BLCK", b"BLKX", b"INDX"):
        assert kind in content
        assert f"`{kind.decode()}`" in PAGE


def test_the_independent_reader_checks_every_byte_too() -> None:
    exact = ExactElements.of(np.arange(6, dtype=np.float32), np.arange(6) % 4 == 1)
    for tensor, options in product((SMALL, INDEXED), ({}, {"exact": [exact], "exact_dtype": "float32"})):
        content = archive_bytes(tensor, **options)  # type: ignore[arg-type]
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 0x10
            with pytest.raises((ValueError, struct.error)):
                reference_archive.read(bytes(damaged))
    content = bundle_bytes({"z": SMALL, "y": INDEXED})
    for damaged_bundle in with_flipped_bits(content, step=11):
        with pytest.raises((ValueError, struct.error, zlib.error)):
            reference_archive.read(damaged_bundle)
