"""The `entropyd` command, run as a person or a program runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from entropyd_server.local import LocalServer


class Cli:
    """Runs `entropyd` against the shared server."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        self.folder = folder

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "entropyd.cli", "--server", self.target, *arguments]
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert ran.returncode == status, (ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        return ran


@pytest.fixture
def cli(server: LocalServer, tmp_path: Path) -> Cli:
    return Cli(server.target, tmp_path)


@pytest.fixture
def model_id(cli: Cli) -> str:
    created = cli.run(
        "models",
        "create",
        "--prior",
        "NoisyNormal",
        "-p",
        "loc=0",
        "-p",
        "scale=[1,2,4]",
        "--coding-rank",
        "2",
    )
    return created.stdout.strip()


def test_files_make_the_round_trip(cli: Cli, model_id: str) -> None:
    x = np.random.default_rng(0).normal(0, 3, (6, 9, 3)).astype(np.float32)
    np.save(cli.folder / "x.npy", x)
    said = cli.run("compress", "--model", model_id, "x.npy", "x.entropyd").stdout
    assert "bits per symbol" in said
    cli.run("decompress", "x.entropyd", "restored.npy")
    restored = np.load(cli.folder / "restored.npy")
    assert np.abs(x - restored).max() <= 0.5 + 1e-6
    cli.run("decompress", "--units", "2:4", "x.entropyd", "some.npy")
    np.testing.assert_array_equal(np.load(cli.folder / "some.npy"), restored[2:4])


def test_json_is_for_programs(cli: Cli, model_id: str) -> None:
    np.save(cli.folder / "x.npy", np.zeros((2, 3), np.float32))
    figures = json.loads(cli.run("--json", "compress", "--model", model_id, "x.npy", "x.entropyd").stdout)
    assert figures["symbols"] == 6
    listed = json.loads(cli.run("--json", "models", "list").stdout)
    assert model_id in [model["model_id"] for model in listed]


def test_a_shown_configuration_makes_the_same_model(cli: Cli, model_id: str) -> None:
    shown = cli.run("--json", "models", "show", model_id).stdout
    (cli.folder / "config.json").write_text(shown)
    assert cli.run("models", "create", "--config", "config.json").stdout.strip() == model_id


def test_parameters_come_from_files_too(cli: Cli, model_id: str) -> None:
    np.save(cli.folder / "scale.npy", np.array([1, 2, 4], np.float32))
    arguments = ["--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=scale.npy", "--coding-rank", "2"]
    assert cli.run("models", "create", *arguments).stdout.strip() == model_id


def test_ids_are_printed_whole(cli: Cli, model_id: str) -> None:
    assert model_id in cli.run("models", "list").stdout
    assert model_id in cli.run("models", "show", model_id).stdout


def test_a_deleted_model_is_gone(cli: Cli) -> None:
    arguments = ["--prior", "NoisyLaplace", "-p", "loc=0", "-p", "scale=9", "--coding-rank", "1"]
    model_id = cli.run("models", "create", *arguments).stdout.strip()
    cli.run("models", "delete", model_id)
    assert "MODEL_NOT_FOUND" in cli.run("models", "show", model_id, status=1).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["models", "create", "--prior", "NoisyNormal"], 2, "--coding-rank"),
        (["models", "create", "--prior", "Nope", "--coding-rank", "1"], 2, "Nope"),
        (
            [
                "models",
                "create",
                "--prior",
                "NoisyNormal",
                "-p",
                "loc=0",
                "-p",
                "scale=-1",
                "--coding-rank",
                "1",
            ],
            1,
            "prior.scale is -1.0",
        ),
        (["models", "create", "--config", "missing.json"], 1, "missing.json cannot be read"),
        (["compress", "--model", "0" * 64, "missing.npy", "x"], 1, "missing.npy cannot be read"),
        (["decompress", "missing.entropyd", "x.npy"], 1, "missing.entropyd cannot be read"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(
    cli: Cli, arguments: list[str], status: int, message: str
) -> None:
    assert message in cli.run(*arguments, status=status).stderr


def test_files_that_are_something_else_are_refused(cli: Cli, model_id: str) -> None:
    (cli.folder / "x.npy").write_bytes(b"not an array")
    assert "not a .npy file" in cli.run("compress", "--model", model_id, "x.npy", "y", status=1).stderr
    assert "not an entropyd file" in cli.run("decompress", "x.npy", "y.npy", status=1).stderr
    np.save(cli.folder / "bad.npy", np.full((2, 3), np.nan, np.float32))
    ended = cli.run("compress", "--model", model_id, "bad.npy", "bad.entropyd", status=1)
    assert "NaN cannot be coded" in ended.stderr
    assert not (cli.folder / "bad.entropyd").exists()
