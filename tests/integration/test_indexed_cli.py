"""`entropyd compress` and `decompress` with indexes and locations: files, parts, pipes and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from entropyd.archive import Archive
from entropyd.cli import compressing
from entropyd.cli.main import entropyd as command
from tests.support.indexed_models import indexed_config

if TYPE_CHECKING:
    import numpy.typing as npt
    from click.testing import Result

    import entropyd
    from entropyd_server.local import LocalServer

ITEMS = 12


class Files:
    """A model, and in the current folder `x.npy`, `i.npy`, `other.npy` (another unit 7) and `loc.npy`."""

    def __init__(self, target: str, model: entropyd.Model) -> None:
        self.target = target
        self.model = model
        rng = np.random.default_rng(0)
        ranges = model.index_ranges
        assert ranges is not None
        axis = model.config.channel_axis  # type: ignore[attr-defined]
        indexes = np.stack([rng.integers(0, length, (ITEMS, 4, 6)) for length in ranges])
        indexes = indexes[0] if axis is None else np.moveaxis(indexes, 0, axis)
        other = indexes.copy()
        first = other[0, 7] if axis == 0 else other[7]
        first[...] = (first + 1) % min(ranges)
        located = model.config.kind == "location_scale_indexed"
        self.arrays = {"x": rng.normal(0, 4, (ITEMS, 4, 6)).astype(np.float32), "i": indexes, "other": other}
        if located:
            self.arrays["loc"] = rng.normal(0, 9, (ITEMS, 4, 6))
        for name, array in self.arrays.items():
            np.save(f"{name}.npy", array)
        self.beside = ["--indexes", "i.npy", *(["--loc", "loc.npy"] if located else [])]

    def run(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> Result:
        ran = CliRunner().invoke(command, ["--server", self.target, *arguments], input=stdin)
        assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
        return ran

    def compress(self, *arguments: str, **options: Any) -> Result:
        return self.run("compress", "--model", self.model.id, *arguments, **options)

    def restored(self) -> npt.NDArray[Any]:
        inputs = [self.arrays[name] for name in ("i", "loc") if name in self.arrays]
        return self.model.decompress(self.model.compress(self.arrays["x"], *inputs), *inputs)


LOCATION: Any = ("location_scale_indexed", (8,), {})


@pytest.fixture(
    params=[
        LOCATION,
        ("universal_indexed", (4, 2), {}),
        ("continuous_indexed", (8,), {"channel_axis": None}),
        ("continuous_indexed", (3, 5), {"channel_axis": 0}),
    ],
    ids=["location", "universal", "no channels", "channels first"],
)
def files(
    request: pytest.FixtureRequest,
    server: LocalServer,
    client: entropyd.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Files:
    monkeypatch.chdir(tmp_path)
    # Parts of two items.
    monkeypatch.setattr(compressing, "_PART_BYTES", 2 * 4 * 6 * 4)
    kind, ranges, options = request.param
    return Files(server.target, client.create_model(indexed_config(kind, ranges, **options)))


def test_arrays_come_back_whole_and_in_parts(files: Files) -> None:
    files.compress(*files.beside, "--embed-model", "x.npy", "x.entropyd")
    with Archive.open("x.entropyd") as archive:
        inputs = [files.arrays[name] for name in ("i", "loc") if name in files.arrays]
        # The parts have the numbers of the whole.
        assert archive.read().to_message() == files.model.compress(files.arrays["x"], *inputs).to_message()
    files.run("decompress", *files.beside, "x.entropyd", "y.npy")
    expected = files.restored()
    assert np.load("y.npy").tobytes() == expected.tobytes()

    files.run("decompress", *files.beside, "--units", "3:-2", "x.entropyd", "part.npy")
    assert np.load("part.npy").tobytes() == expected[3:-2].tobytes()
    # Indexes of these items alone will do.
    axis = files.model.config.channel_axis  # type: ignore[attr-defined]
    np.save("i.npy", files.arrays["i"][:, 3:-2] if axis == 0 else files.arrays["i"][3:-2])
    if "loc" in files.arrays:
        np.save("loc.npy", files.arrays["loc"][3:-2])
    files.run("decompress", *files.beside, "--units", "3:-2", "x.entropyd", "again.npy")
    assert np.load("again.npy").tobytes() == expected[3:-2].tobytes()
    ran = files.run("decompress", *files.beside, "x.entropyd", "whole.npy", status=1)
    assert "indexes are of 7 items; x.entropyd holds 12, of which 12 are restored" in ran.stderr
    assert not Path("whole.npy").exists()


def test_other_indexes_are_named_by_their_unit_in_the_whole_archive(files: Files) -> None:
    files.compress(*files.beside, "x.npy", "x.entropyd")
    wrong = ["--indexes", "other.npy", *files.beside[2:]]
    for units in ([], ["--units", "5:9"]):
        ran = files.run("decompress", *wrong, *units, "x.entropyd", "y.npy", status=1)
        assert "coding unit 7 was coded with other indexes" in ran.stderr
        assert "INDEXES_MISMATCH" in ran.stderr
        assert not Path("y.npy").exists()
    ran = files.run("--json", "decompress", *wrong, "--skip-damaged", "x.entropyd", "y.npy", status=1)
    assert json.loads(ran.stdout)["damaged_units"] == [7]
    restored, others = np.load("y.npy"), np.arange(ITEMS) != 7
    assert np.isnan(restored[7]).all()
    assert restored[others].tobytes() == files.restored()[others].tobytes()


def test_indexes_may_come_through_a_pipe(files: Files) -> None:
    beside = ["--indexes", "-", *files.beside[2:]]
    indexes = Path("i.npy").read_bytes()
    files.compress(*beside, "x.npy", "x.entropyd", stdin=indexes)
    files.run("decompress", *beside, "x.entropyd", "y.npy", stdin=indexes)
    assert np.load("y.npy").tobytes() == files.restored().tobytes()
    ran = files.compress(*beside, "-", "z.entropyd", status=2)
    assert "only one of SOURCE, --indexes and --loc can be -" in ran.stderr


def test_mistakes_are_named(files: Files) -> None:
    ran = files.compress("x.npy", "x.entropyd", status=1)
    assert "indexes are missing" in ran.stderr
    assert "--indexes FILE gives them" in ran.stderr
    np.save("short.npy", files.arrays["x"][:3])
    ran = files.compress(*files.beside, "short.npy", "x.entropyd", status=1)
    assert (
        "bottleneck has shape (3, 4, 6); the indexes are those of elements of shape (12, 4, 6)" in ran.stderr
    )
    if "loc" not in files.arrays:
        np.save("loc.npy", np.zeros(1))
        ran = files.compress(*files.beside, "--loc", "loc.npy", "x.npy", "x.entropyd", status=1)
        assert f"loc is given; a {files.model.config.kind} model takes none" in ran.stderr
    ran = files.compress(*files.beside, "--max-error", "0.1", "x.npy", "x.entropyd", status=2)
    assert "--max-error is for models without indexes" in ran.stderr
    np.save("one.npy", np.int32(3))
    ran = files.compress("--indexes", "one.npy", *files.beside[2:], "x.npy", "x.entropyd", status=1)
    assert "indexes have shape ()" in ran.stderr
    ran = files.compress("--max-error", "0.1", "x.npy", "x.entropyd", status=1)
    assert "indexes are missing" in ran.stderr
    ran = files.compress(*files.beside, "--recursive", ".", "out", status=2)
    assert "--indexes and --loc are of one array" in ran.stderr
    ran = files.compress(*files.beside, "--force", "x.npy", "i.npy", status=1)
    assert "i.npy" in ran.stderr
    assert not Path("x.entropyd").exists()
    files.compress(*files.beside, "x.npy", "x.entropyd")
    ran = files.run("decompress", "x.entropyd", "y.npy", status=1)
    assert "indexes are missing" in ran.stderr
    ran = files.run("decompress", "--recursive", ".", "out", status=1)
    assert "indexes are missing" in ran.stdout + ran.stderr


def test_models_without_indexes_take_none(files: Files, model: entropyd.Model) -> None:
    np.save("plain.npy", np.zeros((5, 2, 3), np.float32))
    ran = files.run("compress", "--model", model.id, *files.beside, "plain.npy", "x.entropyd", status=1)
    assert "indexes are given; a universal_batched model takes none" in ran.stderr


def test_inspect_and_verify_say_what_an_archive_has(files: Files) -> None:
    files.compress(*files.beside, "x.npy", "x.entropyd")
    shown = json.loads(files.run("--json", "inspect", "x.entropyd").stdout)
    assert shown["index_checksums"] is True
    assert shown["unit_numbers"] == files.model.config.numbers_units
    assert "12 coding units with checksums of their indexes" in files.run("verify", "x.entropyd").stdout
    assert (
        json.loads(files.run("--json", "verify", "x.entropyd").stdout)["files"][0]["index_checksums"] is True
    )


@pytest.mark.parametrize("files", [LOCATION], indirect=True, ids=["location"])
def test_a_location_of_float64_is_subtracted_before_it_is_rounded(files: Files) -> None:
    np.save("x64.npy", files.arrays["x"].astype(np.float64) + 1e-9)
    files.compress(*files.beside, "x64.npy", "x.entropyd")
    expected = files.model.compress(np.load("x64.npy"), files.arrays["i"], files.arrays["loc"])
    with Archive.open("x.entropyd") as archive:
        assert archive.read().payload == expected.payload
    for loc in (np.float64(0.3), files.arrays["loc"][:1], files.arrays["loc"][0, 0]):
        np.save("loc.npy", loc)
        files.compress(*files.beside, "--force", "x64.npy", "x.entropyd")
        files.run("decompress", *files.beside, "--force", "x.entropyd", "y.npy")
        expected = files.model.compress(np.load("x64.npy"), files.arrays["i"], loc)
        restored = files.model.decompress(expected, files.arrays["i"], loc)
        assert np.load("y.npy").tobytes() == restored.tobytes()
