"""Bundles of a codec with a hyperprior: `z` of a batched model, `y` of one with indexes and location."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

import entropyd
from entropyd.cli.main import entropyd as command
from entropyd.contract.integrity import BLOCK_BYTES
from tests.golden.archives import write
from tests.support.indexed_models import indexed_config

if TYPE_CHECKING:
    from click.testing import Result

    from entropyd_server.local import LocalServer

FOLDER = Path(write.__file__).parent


class Files:
    """`photo.entropyd` in the current folder, with `i.npy` and `loc.npy` for its part `y`."""

    def __init__(self, target: str, z_model: entropyd.Model, y_model: entropyd.Model) -> None:
        self.target = target
        self.y_model = y_model
        rng = np.random.default_rng(0)
        self.z = rng.normal(0, 2, (3, 5, 3)).astype(np.float32)
        self.y = rng.normal(0, 9000, (6, 200, 80)).astype(np.float32)  # several blocks
        self.indexes, self.loc = rng.integers(0, 8, self.y.shape), rng.normal(0, 9, self.y.shape)
        self.z_strings = z_model.compress(self.z)
        self.y_strings = y_model.compress(self.y, self.indexes, self.loc)
        assert len(self.y_strings.payload) > 2 * BLOCK_BYTES
        self.z_hat = z_model.decompress(self.z_strings)
        self.y_hat = y_model.decompress(self.y_strings, self.indexes, self.loc)
        models = [entropyd.EmbeddedModel.of(model) for model in (z_model, y_model)]
        bundle = entropyd.pack({"z": self.z_strings, "y": self.y_strings}, metadata={"photo": "coffee"})
        bundle.save("photo.entropyd", models=models)
        np.save("i.npy", self.indexes)
        np.save("loc.npy", self.loc)
        self.beside = ["--indexes", "i.npy", "--loc", "loc.npy"]

    def decompress(self, *arguments: str, status: int = 0) -> Result:
        ran = CliRunner().invoke(command, ["--server", self.target, "decompress", *arguments])
        assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
        return ran


@pytest.fixture
def files(
    server: LocalServer,
    client: entropyd.Client,
    model: entropyd.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Files:
    monkeypatch.chdir(tmp_path)
    return Files(server.target, model, client.create_model(indexed_config("location_scale_indexed", (8,))))


def test_each_part_decodes_whole_and_in_selections(files: Files) -> None:
    with entropyd.Bundle.open("photo.entropyd") as bundle:
        part = files.y_model.decompress(bundle["y"][3:5], files.indexes[3:5], files.loc[3:5])
        assert part.tobytes() == files.y_hat[3:5].tobytes()
    files.decompress("--part", "z", "photo.entropyd", "z.npy")
    assert np.load("z.npy").tobytes() == files.z_hat.tobytes()
    files.decompress("--part", "y", *files.beside, "--units", "1:-1", "photo.entropyd", "y.npy")
    assert np.load("y.npy").tobytes() == files.y_hat[1:-1].tobytes()
    ran = files.decompress("--part", "y", "photo.entropyd", "none.npy", status=1)
    assert "indexes are missing" in ran.stderr
    files.decompress("--recursive", "--part", "z", ".", "out")
    assert np.load("out/photo.npy").tobytes() == files.z_hat.tobytes()


def test_a_part_keeps_the_checksums_of_its_indexes(files: Files) -> None:
    files.indexes[4] = (files.indexes[4] + 1) % 8
    np.save("i.npy", files.indexes)
    ran = files.decompress("--part", "y", *files.beside, "photo.entropyd", "y.npy", status=1)
    assert "coding unit 4 was coded with other indexes" in ran.stderr


def test_damage_costs_its_own_units_of_its_own_part(files: Files) -> None:
    content = bytearray(Path("photo.entropyd").read_bytes())
    content[content.index(b"INDX") - 100] ^= 1
    Path("photo.entropyd").write_bytes(content)
    files.decompress("--part", "z", "photo.entropyd", "z.npy")
    ran = files.decompress("--part", "y", *files.beside, "photo.entropyd", "y.npy", status=1)
    assert "of part y of photo.entropyd are damaged" in ran.stderr
    given = ["--json", "--part", "y", *files.beside, "--skip-damaged"]
    ran = files.decompress(*given, "photo.entropyd", "y.npy", status=1)
    lost = json.loads(ran.stdout)["damaged_units"]
    assert 0 < len(lost) < 6
    restored, kept = np.load("y.npy"), np.delete(np.arange(6), lost)
    assert restored[kept].tobytes() == files.y_hat[kept].tobytes()


def test_a_cut_bundle_gives_back_what_is_there_and_names_the_part_that_is_not_complete(files: Files) -> None:
    content = Path("photo.entropyd").read_bytes()
    Path("photo.entropyd").write_bytes(content[: content.rindex(b"BLCK") + 100])
    assert (
        "--recover reads the rest"
        in files.decompress("--part", "z", "photo.entropyd", "z.npy", status=1).stderr
    )
    files.decompress("--recover", "--part", "z", "photo.entropyd", "z.npy")
    assert np.load("z.npy").tobytes() == files.z_hat.tobytes()
    files.decompress("--recover", "--part", "y", "--units", "0:2", *files.beside, "photo.entropyd", "y.npy")
    assert np.load("y.npy").tobytes() == files.y_hat[:2].tobytes()
    ran = files.decompress("--recover", "--part", "y", *files.beside, "photo.entropyd", "rest.npy", status=1)
    with entropyd.Bundle.recover("photo.entropyd") as bundle:
        found = bundle["y"].units
    assert 2 <= found < 6
    assert f"part y of photo.entropyd is not complete: {found} coding units were found" in ran.stderr
    assert np.load("rest.npy").tobytes() == files.y_hat[:found].tobytes()


@pytest.mark.parametrize("name", write.BUNDLES)
def test_a_golden_bundle_decodes_with_a_server_that_never_had_its_models(
    client: entropyd.Client, name: str
) -> None:
    with entropyd.Bundle.open(FOLDER / f"{name}.entropyd") as bundle:
        for part, archive in bundle.items():
            embedded: Any = archive.model
            model = client.create_model(embedded.standalone_config)
            path = FOLDER / f"{name}.{part}.indexes.npy"
            indexes = np.load(path) if path.exists() else None
            restored = model.decompress(embedded.standalone(archive.read()), indexes)
            assert restored.tobytes() == np.load(FOLDER / f"{name}.{part}.npy").tobytes()
