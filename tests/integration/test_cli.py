"""The `entropyd` command: files make the round trip, mistakes get a sentence, and status 0 means all worked.

docs/cli.md's tour, in `test_cli_tour`, runs the command in a shell; here it runs in this process, which is
quicker.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click
import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from entropyd import Archive
from entropyd.cli.bench import _load
from entropyd.cli.creating import create
from entropyd.cli.main import entropyd
from entropyd.cli.session import DEFAULT_SERVER
from entropyd.contract.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from click.testing import Result

    from entropyd_server.local import LocalServer

CREATE = ["models", "create", "--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=[1,2,4]"]
CREATE += ["--coding-rank", "2"]


class Cli:
    """Runs `entropyd` against the shared server, in a folder of its own."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        self.folder = folder

    def run(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> Result:
        ran = CliRunner().invoke(entropyd, ["--server", self.target, *arguments], input=stdin)
        assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
        assert ran.exception is None or isinstance(ran.exception, SystemExit)
        return ran


@pytest.fixture
def cli(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(server.target, tmp_path)


@pytest.fixture
def model_id(cli: Cli) -> str:
    return cli.run(*CREATE).stdout.strip()


@pytest.fixture
def x(cli: Cli) -> npt.NDArray[np.float32]:
    x = np.random.default_rng(0).normal(0, 3, (6, 9, 3)).astype(np.float32)
    np.save("x.npy", x)
    return x


# Models


def test_a_shown_configuration_makes_the_same_model(cli: Cli, model_id: str) -> None:
    (cli.folder / "config.json").write_text(cli.run("--json", "models", "show", model_id).stdout)
    assert cli.run("models", "create", "--config", "config.json").stdout.strip() == model_id


def test_json_that_nests_without_end_is_refused_in_words(cli: Cli) -> None:
    deep = "[" * 5000 + "]" * 5000
    (cli.folder / "deep.json").write_text(deep)
    refused = cli.run("models", "create", "--config", "deep.json", status=1)
    assert "deep.json is not the JSON of a configuration: nests more than 32 levels" in refused.stderr
    refused = cli.run(*CREATE[:4], "-p", f"loc={deep}", "--coding-rank", "1", status=2)
    assert "parameter loc" in refused.stderr


def test_parameters_come_from_files_too(cli: Cli, model_id: str) -> None:
    np.save("scale.npy", np.array([1, 2, 4], np.float32))
    arguments = ["--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=scale.npy", "--coding-rank", "2"]
    assert cli.run("models", "create", *arguments).stdout.strip() == model_id


def test_ids_are_printed_whole(cli: Cli, model_id: str) -> None:
    assert model_id in cli.run("models", "list").stdout
    assert model_id in cli.run("models", "show", model_id).stdout


@pytest.mark.parametrize("columns", [20, 80, 300])
def test_ids_are_whole_on_a_terminal_of_any_width(cli: Cli, model_id: str, columns: int) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "entropyd.cli", "--server", cli.target, "models", "list"]
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal ends
            while piece := os.read(ours, 1 << 16):
                shown += piece
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert [line for line in lines if line.strip().startswith(model_id)]
    assert any("NoisyNormal" in line for line in lines)
    assert columns < 100 or "MODEL ID" in lines[0]


def test_every_command_takes_the_first_digits_of_an_id(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    digits = model_id[:10]
    assert model_id in cli.run("models", "show", digits).stdout
    cli.run("compress", "--model", digits, "x.npy", "x.entropyd")
    cli.run("compress", "--model", digits, "--recursive", ".", "out")
    for archive in ("x.entropyd", "out/x.entropyd"):
        assert json.loads(cli.run("inspect", "--json", archive).stdout)["model_id"] == model_id
    exported = json.loads(cli.run("models", "export", digits, "model.safetensors", "--json").stdout)
    assert exported["model_id"] == model_id
    measured = cli.run("bench", "--model", digits, "--shape", "9,3", "--seconds", "0.1", "--json").stdout
    assert json.loads(measured)["model_id"] == model_id
    cli.run("models", "delete", digits)
    assert "MODEL_NOT_FOUND" in cli.run("models", "show", digits, status=1).stderr
    assert cli.run("models", "import", "model.safetensors").stdout.strip() == model_id


def test_every_command_takes_a_name_and_archives_get_the_id(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    other = cli.run(*CREATE, "--no-compression", "--name", "cli-name").stdout.strip()
    moved = json.loads(cli.run("models", "name", "cli-name", model_id[:8], "--json").stdout)
    assert moved == {"name": "cli-name", "model_id": model_id, "previous_model_id": other}
    assert "NAME_MOVED" in cli.run("models", "name", "--expected", "", "cli-name", other, status=1).stderr
    assert model_id in cli.run("models", "show", "cli-name").stdout
    told = json.loads(cli.run("compress", "--model", "cli-name", "x.npy", "x.entropyd", "--json").stdout)
    assert told["model_id"] == model_id
    cli.run("models", "name", "cli-name", other)
    cli.run("decompress", "x.entropyd", "restored.npy")
    assert json.loads(cli.run("inspect", "--json", "x.entropyd").stdout)["model_id"] == model_id
    exported = json.loads(cli.run("models", "export", "cli-name", "other.safetensors", "--json").stdout)
    assert exported["model_id"] == other
    cli.run("models", "import", "--name", "cli-import", "other.safetensors")
    listed = {
        each["model_id"]: each["names"] for each in json.loads(cli.run("models", "list", "--json").stdout)
    }
    assert {"cli-name", "cli-import"} <= set(listed[other])
    cli.run("models", "delete", "cli-import")
    assert f"cli-import, cli-name: model {other} is damaged, or not in" in cli.run("models", "list").stderr
    for name in ("cli-name", "cli-import"):
        removed = json.loads(cli.run("models", "unname", name, "--json").stdout)
        assert removed == {"name": name, "model_id": other}


@pytest.mark.parametrize("command", ["models show", "models delete", "models export", "compress --model"])
def test_too_few_digits_of_an_id_are_refused(cli: Cli, command: str) -> None:
    rest = {"models export": ["x"], "compress --model": ["x.npy", "x"]}.get(command, [])
    refused = cli.run(*command.split(), "62d75", *rest, status=1).stderr
    assert "model_id is '62d75'; expected an id, at least its first 6 digits, or a name" in refused


BY_KIND = {
    "universal-batched": "--prior NoisyNormal -p loc=0 -p scale=[1,2,4]",
    "continuous-batched": "--prior NoisyNormal -p loc=0.25 -p scale=[1,2,4]",
    "continuous-indexed": "--prior NoisyLaplace -p loc=affine:-2:1 -p scale=2 --index-ranges 5",
    "location-scale": "--prior NoisyNormal --scales 0.11:256:64",
    "universal-indexed": "--prior NoisyLogistic --scales 1:9:4 --num-noise-levels 3",
    "power-law": "--alpha 0.5",
}
SHOWN = {
    "universal-batched": ["scale                1 ... 4, 3 values", "45 (num_noise_levels 15 times"],
    "continuous-batched": ["loc                  0.25", "table_rows             3 (prior_shape (3,))"],
    "continuous-indexed": ["loc                  affine -2 ... 2, 5 values", "index_ranges           [5]"],
    "location-scale": ["scale                log_spaced 0.11 ... 256, 64 values", "52,568"],
    "universal-indexed": ["table_rows             12 (num_noise_levels 3 times index_ranges (4,))"],
    "power-law": ["alpha                  0.5", "table_rows             0"],
}


@pytest.mark.parametrize("kind", BY_KIND)
def test_every_kind_is_made_shown_and_made_again(cli: Cli, kind: str) -> None:
    options = ["--kind", kind, *BY_KIND[kind].split(), "--coding-rank", "2", "--json"]
    described = json.loads(cli.run("models", "create", *options).stdout)
    model_id = described["model_id"]
    shown = cli.run("models", "show", model_id).stdout
    assert all(text in shown for text in [*SHOWN[kind], described["kind"]])
    (listed,) = [line for line in cli.run("models", "list").stdout.splitlines() if model_id in line]
    assert described["kind"] in listed
    (cli.folder / "config.json").write_text(cli.run("models", "show", model_id, "--json").stdout)
    assert cli.run("models", "create", "--config", "config.json").stdout.strip() == model_id


PARAMETERS = {"real": "0.5", "positive": "2", "one positive": "2", "weight": "[0.5,0.5]"}
(OFFERED,) = [
    option.type.choices
    for option in create.params
    if option.name == "family" and isinstance(option.type, click.Choice)
]


@pytest.mark.parametrize("family", OFFERED)
def test_every_family_that_is_offered_makes_a_model(cli: Cli, family: str) -> None:
    known = FAMILIES[family]
    parameters = {name: PARAMETERS[domain] for name, domain in known.arrays.items()}
    if "weight" in parameters:
        parameters |= {"loc": "[0,1]", "scale": "[1,2]"}
    if known.rising is not None:
        parameters |= dict(zip(known.rising, ("0", "9"), strict=True))
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    made = cli.run(
        "models", "create", "--prior", family, *given, "--coding-rank", "1", "--no-compression", "--json"
    )
    assert json.loads(made.stdout)["prior"] == family


def test_a_configuration_and_other_options_do_not_go_together(cli: Cli, model_id: str) -> None:
    (cli.folder / "config.json").write_text(cli.run("models", "show", model_id, "--json").stdout)
    for options in (
        ["--tail-mass", "0.00390625"],
        ["--no-compression"],
        ["-p", "loc=0"],
        ["--coding-rank", "2"],
    ):
        refused = cli.run("models", "create", "--config", "config.json", *options, status=2)
        assert "--config has everything" in refused.stderr


def test_a_deleted_model_is_gone(cli: Cli) -> None:
    arguments = ["--prior", "NoisyLaplace", "-p", "loc=0", "-p", "scale=9", "--coding-rank", "1"]
    model_id = cli.run("models", "create", *arguments).stdout.strip()
    cli.run("models", "delete", model_id)
    assert "MODEL_NOT_FOUND" in cli.run("models", "show", model_id, status=1).stderr


def test_models_that_were_deleted_before_an_error_are_named(cli: Cli) -> None:
    create = ["models", "create", "--prior", "NoisyLaplace", "-p", "loc=0", "--coding-rank", "1"]
    ids = [cli.run(*create, "-p", f"scale={scale}").stdout.strip() for scale in (11, 12, 13)]
    ran = cli.run("models", "delete", *ids[:2], "0" * 64, ids[2], status=1)
    assert ran.stdout == f"deleted 2 of 4: {ids[0]}, {ids[1]}\n"
    assert "MODEL_NOT_FOUND" in ran.stderr
    ran = cli.run("--json", "models", "delete", ids[2], "0" * 64, status=1)
    assert json.loads(ran.stdout) == {"deleted": [ids[2]]}
    assert not cli.run("models", "delete", "0" * 64, status=1).stdout


# Round trips


def test_files_make_the_round_trip(cli: Cli, model_id: str, x: npt.NDArray[np.float32]) -> None:
    assert "bits per symbol" in cli.run("compress", "--model", model_id, "x.npy", "x.entropyd").stdout
    cli.run("decompress", "x.entropyd", "restored.npy")
    restored = np.load("restored.npy")
    assert np.abs(x - restored).max() <= 0.5 + 1e-6
    for units, expected in {
        "2:4": restored[2:4],
        "5": restored[5:6],
        "-2:": restored[-2:],
        ":": restored,
    }.items():
        cli.run("decompress", "--force", "--units", units, "x.entropyd", "some.npy")
        np.testing.assert_array_equal(np.load("some.npy"), expected)
    assert sorted(os.listdir()) == ["restored.npy", "some.npy", "x.entropyd", "x.npy"]  # noqa: PTH208


def test_pipes_make_the_round_trip(cli: Cli, model_id: str, x: npt.NDArray[np.float32]) -> None:
    packed = cli.run("compress", "--model", model_id, "-", "-", stdin=(cli.folder / "x.npy").read_bytes())
    (cli.folder / "restored.npy").write_bytes(
        cli.run("decompress", "-", "-", stdin=packed.stdout_bytes).stdout_bytes
    )
    assert np.abs(x - np.load("restored.npy")).max() <= 0.5 + 1e-6
    assert "bits per symbol" in packed.stderr


@pytest.mark.parametrize("shape", [(9, 3), (0, 9, 3), (2, 3, 9, 3), (2, 0, 9, 3), (4, 0, 3)])
def test_every_shape_of_batch_makes_the_round_trip(cli: Cli, model_id: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)
    np.save("x.npy", x)
    cli.run("compress", "--model", model_id, "x.npy", "x.entropyd")
    cli.run("decompress", "x.entropyd", "restored.npy")
    np.testing.assert_allclose(np.load("restored.npy"), x, atol=0.5 + 1e-6)
    cli.run("inspect", "x.entropyd")


def test_a_large_array_goes_through_in_parts(
    cli: Cli, model_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(2).normal(0, 3, (1000, 9, 3)).astype(np.float32)
    np.save("x.npy", x)
    cli.run("compress", "--model", model_id, "x.npy", "whole.entropyd")
    monkeypatch.setattr("entropyd.cli.compressing._PART_BYTES", 10_000)
    cli.run("compress", "--model", model_id, "x.npy", "x.entropyd")
    assert (cli.folder / "x.entropyd").read_bytes() == (cli.folder / "whole.entropyd").read_bytes()
    cli.run("decompress", "x.entropyd", "restored.npy")
    np.testing.assert_allclose(np.load("restored.npy"), x, atol=0.5 + 1e-5)


# A large archive is read as it was written: in pieces of the first axis.
WITHIN_MEMORY = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from entropyd.cli.__main__ import main
main()
"""


def test_files_larger_than_memory_go_both_ways(cli: Cli, model_id: str) -> None:
    limit = 256 * 2**20
    # A sparse file: nothing but its header takes room on the disk.
    layout: Any = np.lib.format
    layout.open_memmap("x.npy", "w+", np.float32, (1200, 30_000, 3)).flush()
    assert (cli.folder / "x.npy").stat().st_size > 1.5 * limit
    command = [sys.executable, "-c", WITHIN_MEMORY, str(limit), "--server", cli.target]
    for arguments in (
        ["compress", "--model", model_id, "x.npy", "x.entropyd"],
        ["decompress", "x.entropyd", "y.npy"],
    ):
        ran = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
    restored = np.load("y.npy", mmap_mode="r")
    assert restored.shape == (1200, 30_000, 3)
    assert np.abs(restored[::100]).max() <= 0.5


def test_a_bound_on_the_error_is_kept_and_needs_not_be_repeated(cli: Cli) -> None:
    arguments = ["--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=50", "--coding-rank", "1"]
    model_id = cli.run("models", "create", *arguments).stdout.strip()
    x = np.random.default_rng(3).normal(0, 1, (20, 30))
    np.save("x.npy", x)
    cli.run("compress", "--model", model_id, "--max-error", "0.01", "x.npy", "x.entropyd")
    cli.run("decompress", "x.entropyd", "restored.npy")
    restored = np.load("restored.npy")
    assert restored.dtype == np.float64
    assert np.abs(x - restored).max() <= 0.01
    refused = cli.run("compress", "--model", model_id, "--max-error", "1e-12", "x.npy", "y", status=1)
    assert "expected at least" in refused.stderr


@pytest.fixture
def gaps(cli: Cli) -> npt.NDArray[np.float64]:
    """Data with NaN and two fill values, in gaps.npy."""
    rng = np.random.default_rng(8)
    gaps = rng.normal(0, 1, (40, 30))
    gaps[rng.random(gaps.shape) < 0.3] = np.nan
    gaps[:, 3:7] = -9999
    gaps[30] = 1e20
    np.save("gaps.npy", gaps)
    return gaps


@pytest.fixture
def row_model_id(cli: Cli) -> str:
    arguments = ["--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=50", "--coding-rank", "1"]
    return cli.run("models", "create", *arguments).stdout.strip()


@pytest.mark.parametrize("piece_bytes", [10_000_000, 1_000])
def test_named_missing_values_and_nan_come_back_exactly(
    cli: Cli,
    row_model_id: str,
    gaps: npt.NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
    piece_bytes: int,
) -> None:
    monkeypatch.setattr("entropyd.cli.compressing._PART_BYTES", piece_bytes)
    named = ["--max-error", "0.01", "--missing", "-9999", "--missing", "1e20"]
    cli.run("compress", "--model", row_model_id, *named, "gaps.npy", "gaps.entropyd")
    cli.run("decompress", "gaps.entropyd", "restored.npy")
    restored, gone = np.load("restored.npy"), np.isnan(gaps) | (gaps == -9999) | (gaps == 1e20)
    assert restored[gone].tobytes() == gaps[gone].tobytes()
    assert np.abs(restored[~gone] - gaps[~gone]).max() <= 0.01
    cli.run("decompress", "--units", "28:33", "gaps.entropyd", "some.npy")
    assert np.load("some.npy").tobytes() == restored[28:33].tobytes()
    packed = cli.run(
        "compress",
        "--model",
        row_model_id,
        *named,
        "-",
        "-",
        stdin=(cli.folder / "gaps.npy").read_bytes(),
    )
    assert packed.stdout_bytes == (cli.folder / "gaps.entropyd").read_bytes()


def test_the_bytes_that_are_told_are_those_of_the_archive_but_for_its_frame(
    cli: Cli, row_model_id: str, gaps: npt.NDArray[np.float64]
) -> None:
    arguments = [
        "--max-error",
        "0.01",
        "--missing",
        "-9999",
        "--missing",
        "1e20",
        "gaps.npy",
        "gaps.entropyd",
    ]
    told = json.loads(cli.run("--json", "compress", "--model", row_model_id, *arguments).stdout)
    assert 0 <= (cli.folder / "gaps.entropyd").stat().st_size - told["compressed_bytes"] < 1000


def test_a_value_that_is_not_named_is_no_missing_one(
    cli: Cli, row_model_id: str, gaps: npt.NDArray[np.float64]
) -> None:
    arguments = ["--max-error", "0.01", "--missing", "-9999", "gaps.npy", "gaps.entropyd"]
    assert "values up to 1e+20" in cli.run("compress", "--model", row_model_id, *arguments, status=1).stderr


def test_missing_values_need_a_bound_on_the_error(
    cli: Cli, row_model_id: str, gaps: npt.NDArray[np.float64]
) -> None:
    arguments = ["--missing", "-9999", "gaps.npy", "gaps.entropyd"]
    assert "needs --max-error" in cli.run("compress", "--model", row_model_id, *arguments, status=2).stderr


def test_a_folder_is_compressed_again_with_other_missing_values(
    cli: Cli, row_model_id: str, gaps: npt.NDArray[np.float64]
) -> None:
    (cli.folder / "in").mkdir()
    np.save("in/gaps.npy", gaps[:30])

    def done(*named: str) -> int:
        command = [
            "--json",
            "compress",
            "--model",
            row_model_id,
            "--max-error",
            "20",
            *named,
            "-r",
            "in",
            "out",
        ]
        return int(json.loads(cli.run(*command).stdout)["done"])

    assert done("--missing", "-9999") == 1
    assert done("--missing", "-9999.0", "--missing", "nan", "--missing", "-9999") == 0
    assert done("--missing", "-9999", "--missing", "inf") == 1
    assert done("--missing", "inf", "--missing", "-9999") == 0
    assert done() == 1
    assert done("--missing", "-9999") == 1


def test_metadata_and_model_travel_with_the_data(cli: Cli, model_id: str, x: npt.NDArray[np.float32]) -> None:
    options = ["--embed-model", "-m", "gain=2.5", "-m", "camera=left"]
    options += ["-m", "fill=NaN", "-m", "range=[0, 1e999]"]
    cli.run("compress", "--model", model_id, *options, "x.npy", "x.entropyd")
    with Archive.open("x.entropyd") as archive:
        texts = {"camera": "left", "fill": "NaN", "range": "[0, 1e999]"}
        assert archive.metadata == {"gain": 2.5, **texts}
        assert archive.model is not None
        assert archive.model.model_id == model_id


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_dtype_makes_the_round_trip(cli: Cli, dtype: str) -> None:
    model_id = cli.run(*CREATE, "--bottleneck-dtype", dtype).stdout.strip()
    numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    x = np.random.default_rng(5).normal(0, 2, (4, 5, 3)).astype(numpy_dtype)
    np.save("x.npy", x)
    cli.run("compress", "--model", model_id, "x.npy", "x.entropyd")
    cli.run("decompress", "x.entropyd", "restored.npy")
    restored = np.load("restored.npy").view(numpy_dtype)
    np.testing.assert_allclose(restored.astype(float), x.astype(float), atol=0.6)


@pytest.mark.parametrize("layout", ["big-endian", "column-major"])
def test_every_layout_in_memory_is_the_same_array(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32], layout: str
) -> None:
    np.save("other.npy", x.astype(">f4") if layout == "big-endian" else np.asfortranarray(x))
    for name in ("x", "other"):
        cli.run("compress", "--model", model_id, f"{name}.npy", f"{name}.entropyd")
        cli.run("compress", "--model", model_id, "--max-error", "1", f"{name}.npy", f"{name}.bounded")
    assert (cli.folder / "x.entropyd").read_bytes() == (cli.folder / "other.entropyd").read_bytes()
    assert (cli.folder / "x.bounded").read_bytes() == (cli.folder / "other.bounded").read_bytes()


def test_another_dtype_is_converted_on_request_only(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    np.save("double.npy", x.astype(np.float64))
    refused = cli.run("compress", "--model", model_id, "double.npy", "x.entropyd", status=1)
    assert "--cast converts it" in refused.stderr
    cli.run("compress", "--model", model_id, "--cast", "double.npy", "x.entropyd")
    bounded = cli.run(
        "compress", "--model", model_id, "--cast", "--max-error", "1", "double.npy", "y.entropyd", status=2
    )
    assert "--cast has no use with --max-error" in bounded.stderr


CAST = ["bool", "int8", "uint16", "int64", "float16", "float64", "longdouble"]
NOT_CAST = ["complex64", "U5", "S5", "datetime64[s]", "timedelta64[ms]", "V2", "V9", "i4,f4"]


def test_numbers_alone_are_converted_and_others_cost_their_file(cli: Cli, model_id: str) -> None:
    (cli.folder / "in").mkdir()
    for number, dtype in enumerate([*CAST, *NOT_CAST]):
        np.save(f"in/{number}.npy", np.zeros((2, 9, 3), dtype))
    command = ["compress", "--model", model_id, "--cast", "-r", "in", "out"]
    ran = cli.run(*command, status=1)
    assert f"{len(CAST)} done, 0 skipped, {len(NOT_CAST)} failed" in ran.stdout
    assert ran.stderr.count("--cast converts real numbers alone") == len(NOT_CAST)
    cli.run("decompress", "-r", "out", "back")
    for number in range(len(CAST)):
        assert np.load(f"back/{number}.npy").shape == (2, 9, 3)


# Folders


@pytest.fixture
def folder(cli: Cli, x: npt.NDArray[np.float32]) -> Path:
    folder = cli.folder / "in"
    (folder / "deep").mkdir(parents=True)
    np.save(folder / "a.npy", x)
    np.savez(folder / "deep" / "pair.npz", left=x[:2], right=x[2:])
    return folder


def test_a_folder_is_compressed_once_and_then_only_what_changed(
    cli: Cli, model_id: str, folder: Path, x: npt.NDArray[np.float32]
) -> None:
    command = ["--json", "compress", "--model", model_id, "--recursive", "in", "out"]
    first = json.loads(cli.run(*command).stdout)
    assert (first["done"], first["skipped"]) == (3, 0)
    assert {file["target"] for file in first["files"]} == {
        "out/a.entropyd",
        "out/deep/pair/left.entropyd",
        "out/deep/pair/right.entropyd",
    }
    assert json.loads(cli.run(*command).stdout)["skipped"] == 3
    np.save(folder / "a.npy", x[:3])
    damaged = cli.folder / "out" / "deep" / "pair" / "left.entropyd"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    # The archive of what a.npy was may be all that is left of that.
    again = json.loads(cli.run(*command, status=1).stdout)
    assert (again["done"], again["skipped"], again["failed"]) == (1, 1, 1)
    assert "out/a.entropyd exists already; --force replaces it" in str(again["files"])
    again = json.loads(cli.run(*command, "--force").stdout)
    assert (again["done"], again["skipped"]) == (1, 2)
    cli.run("decompress", "--recursive", "out", "back")
    np.testing.assert_allclose(np.load("back/a.npy"), x[:3], atol=0.5 + 1e-6)
    np.testing.assert_allclose(np.load("back/deep/pair/right.npy"), x[2:], atol=0.5 + 1e-6)


def test_one_bad_file_of_a_folder_costs_that_file(cli: Cli, model_id: str, folder: Path) -> None:
    (folder / "bad.npy").write_bytes(b"not an array")
    (folder / "bad.npz").write_bytes(b"PK, but not a zip file")
    content = bytearray((folder / "deep" / "pair.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version of the format that reading it needs
    (folder / "newer.npz").write_bytes(content)
    np.save(folder / "nan.npy", np.full((1, 9, 3), np.nan, np.float32))
    command = ["compress", "--model", model_id, "--recursive", "in", "out"]
    ran = cli.run(*command, status=1)
    assert "3 done, 0 skipped, 4 failed" in ran.stdout
    assert "newer.npz is not a .npz file: zip file version 9.9" in ran.stderr
    assert "bad.npy is not a .npy file" in ran.stderr
    assert "bad.npz is not a .npz file" in ran.stderr
    assert "NaN cannot be coded" in ran.stderr


def test_names_that_are_not_utf_8_are_shown(cli: Cli, model_id: str, folder: Path) -> None:
    (folder / "a.npy").rename(folder / os.fsdecode(b"\xff.npy"))
    command = [sys.executable, "-m", "entropyd.cli", "--server", cli.target]
    # In some locales, Python would print the name's own bytes.
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for arguments in (
        ["compress", "--model", model_id, "-r", "in", "out"],
        ["decompress", "-r", "out", "back"],
    ):
        ran = subprocess.run([*command, *arguments], capture_output=True, env=env, check=False)
        assert (ran.returncode, ran.stderr) == (0, b"")
        assert rb"/\udcff." in ran.stdout
        assert b"3 done, 0 skipped, 0 failed" in ran.stdout
    assert (cli.folder / "back" / os.fsdecode(b"\xff.npy")).exists()


def test_what_a_folder_links_to_is_never_left_out_without_a_word(
    cli: Cli, model_id: str, folder: Path
) -> None:
    for suffix in ("npy", "entropyd"):
        (folder / f"gone.{suffix}").symlink_to("nowhere")
        os.mkfifo(folder / f"pipe.{suffix}")
    (folder / "linked").symlink_to("deep")
    cli.run("compress", "--model", model_id, "x.npy", "in/whole.entropyd")
    for command, done in ((["compress", "--model", model_id], 3), (["decompress"], 1)):
        ran = cli.run(*command, "--recursive", "in", "out", status=1)
        assert f"{done} done, 0 skipped, 3 failed" in ran.stdout
        assert "in/linked: is a link to a folder, which is not followed" in ran.stderr
        assert "No such file" in ran.stderr
        assert "is not a regular file" in ran.stderr


def test_names_inside_a_file_cannot_leave_the_folder(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    np.savez("evil.npz", **{"../escaped": x})
    ran = cli.run("compress", "--model", model_id, "evil.npz", "out/in", status=1)
    assert "which cannot name a file" in ran.stderr
    assert not (cli.folder / "out").exists()


# Damage


def test_damage_is_named_and_the_rest_is_restored_on_request(cli: Cli, model_id: str) -> None:
    x = np.random.default_rng(4).normal(0, 3, (9000, 9, 3)).astype(np.float32)
    np.save("x.npy", x)
    cli.run("compress", "--model", model_id, "x.npy", "x.entropyd")
    content = bytearray((cli.folder / "x.entropyd").read_bytes())
    content[1000] ^= 1
    (cli.folder / "x.entropyd").write_bytes(content)
    report = json.loads(cli.run("--json", "verify", "x.entropyd", status=1).stdout)
    assert not report["good"]
    (run,) = report["files"][0]["damaged"]
    assert run["first"] == 0
    end = run["last"] + 1
    assert 0 < end < 9000
    assert "CORRUPT_STRING" in cli.run("decompress", "x.entropyd", "y.npy", status=1).stderr
    assert not (cli.folder / "y.npy").exists()
    cli.run("decompress", "--units", f"{end}:", "x.entropyd", "y.npy")
    ran = cli.run("decompress", "--force", "--skip-damaged", "x.entropyd", "y.npy", status=1)
    assert f"{end} damaged coding units are NaN" in ran.stderr
    restored = np.load("y.npy")
    assert np.isnan(restored[:end]).all()
    np.testing.assert_allclose(restored[end:], x[end:], atol=0.5 + 1e-5)


def test_a_torn_archive_is_refused_and_recovered_on_request(cli: Cli, model_id: str) -> None:
    np.save("x.npy", np.zeros((9000, 90, 3), np.float32))
    cli.run("compress", "--model", model_id, "x.npy", "x.entropyd")
    content = (cli.folder / "x.entropyd").read_bytes()
    (cli.folder / "x.entropyd").write_bytes(content[: -len(content) // 4])
    refused = cli.run("decompress", "x.entropyd", "y.npy", status=1)
    assert "is not complete" in refused.stderr
    assert "--recover" in refused.stderr
    assert "is not complete" in cli.run("verify", "x.entropyd", status=1).stdout
    ran = cli.run("decompress", "--recover", "x.entropyd", "y.npy", status=1)
    assert "x.entropyd is not complete" in ran.stderr
    with Archive.recover("x.entropyd") as archive:
        assert f"{archive.units:,} coding units were found" in ran.stderr
        assert f"at least {archive.missing_units:,} more are missing" in ran.stderr
        assert len(np.load("y.npy")) == archive.units > 0
    shown = json.loads(
        cli.run("--json", "decompress", "-f", "--recover", "x.entropyd", "y.npy", status=1).stdout
    )
    assert (shown["complete"], shown["missing_units"]) == (False, archive.missing_units)
    # All of these were there and asked for; the second command counts from an end that is lost.
    cli.run("decompress", "-f", "--recover", "--units", "0:9", "x.entropyd", "y.npy")
    cli.run("decompress", "-f", "--recover", "--units", "-9:", "x.entropyd", "y.npy", status=1)


def test_recovering_folders_tells_of_each_archive_what_is_missing(cli: Cli, model_id: str) -> None:
    np.save("x.npy", np.zeros((9000, 90, 3), np.float32))
    (cli.folder / "in").mkdir()
    cli.run("compress", "--model", model_id, "x.npy", "in/torn.entropyd")
    content = (cli.folder / "in/torn.entropyd").read_bytes()
    (cli.folder / "in/whole.entropyd").write_bytes(content)
    (cli.folder / "in/torn.entropyd").write_bytes(content[: -len(content) // 4])
    ran = cli.run("--json", "decompress", "-r", "--recover", "in", "out", status=1)
    torn, whole = json.loads(ran.stdout)["files"]
    assert (torn["status"], whole["status"]) == ("failed", "done")
    assert "more are missing" in torn["text"]
    assert 0 < len(np.load("out/torn.npy")) < len(np.load("out/whole.npy")) == 9000


def test_archives_are_decompressed_from_pipes_under_any_name(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    cli.run("compress", "--model", model_id, "x.npy", "x.entropyd")
    cli.run("decompress", "x.entropyd", "y.npy")
    reader, writer = os.pipe()
    os.write(writer, (cli.folder / "x.entropyd").read_bytes())
    os.close(writer)
    cli.run("decompress", f"/dev/fd/{reader}", "piped.npy")
    os.close(reader)
    (cli.folder / "-").write_bytes((cli.folder / "x.entropyd").read_bytes())
    cli.run("decompress", "./-", "dash.npy")
    for name in ("piped.npy", "dash.npy"):
        assert (cli.folder / name).read_bytes() == (cli.folder / "y.npy").read_bytes()


def test_a_folder_with_nothing_to_do_is_a_mistake(cli: Cli, model_id: str) -> None:
    (cli.folder / "in").mkdir()
    compress = ["compress", "--model", model_id, "-r", "in", "out"]
    assert "in holds no .npy or .npz files" in cli.run(*compress, status=1).stderr
    assert "in holds no .entropyd files" in cli.run("decompress", "-r", "in", "out", status=1).stderr


# What people and programs see


def test_inspect_shows_the_rate_and_the_lengths_without_a_server(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    figures = json.loads(cli.run("--json", "compress", "--model", model_id, "x.npy", "x.entropyd").stdout)
    alone = CliRunner().invoke(entropyd, ["--server", "127.0.0.1:1", "--json", "inspect", "x.entropyd"])
    found = json.loads(alone.stdout)
    assert found["model_id"] == model_id
    assert found["bits_per_symbol"] == pytest.approx(figures["bits_per_symbol"], abs=1e-4)
    assert found["batch_shape"] == [6]
    assert sum(found["lengths"]["histogram"]["units"]) == found["coding_units"] == 6
    assert "█" in cli.run("inspect", "x.entropyd").stdout
    assert "good, 6 coding units" in cli.run("verify", "x.entropyd").stdout


def test_json_is_for_programs(cli: Cli, model_id: str, x: npt.NDArray[np.float32]) -> None:
    figures = json.loads(cli.run("--json", "compress", "--model", model_id, "x.npy", "x.entropyd").stdout)
    assert figures["symbols"] == 162
    restored = json.loads(cli.run("--json", "decompress", "x.entropyd", "y.npy").stdout)
    assert restored == {
        "target": "y.npy",
        "dtype": "float32",
        "shape": [6, 9, 3],
        "damaged_units": [],
        "missing_units": 0,
        "complete": True,
    }
    listed = json.loads(cli.run("--json", "models", "list").stdout)
    assert model_id in [model["model_id"] for model in listed]


def test_the_bytes_that_are_printed_are_those_of_the_file(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32], folder: Path
) -> None:
    printed = cli.run("compress", "--model", model_id, "x.npy", "x.entropyd").stdout
    size = (cli.folder / "x.entropyd").stat().st_size
    assert f"x.entropyd: {x.nbytes:,} -> {size:,} bytes" in printed
    figures = json.loads(cli.run("compress", "--model", model_id, "x.npy", "y.entropyd", "--json").stdout)
    assert figures["file_bytes"] == size
    assert (
        figures["compressed_bytes"]
        == json.loads(cli.run("inspect", "y.entropyd", "--json").stdout)["payload_bytes"]
    )
    packed = cli.run("compress", "--model", model_id, "x.npy", "-")
    assert f"-> {len(packed.stdout_bytes):,} bytes" in packed.stderr
    for file in json.loads(
        cli.run("compress", "--model", model_id, "-r", str(folder), "out", "--json").stdout
    )["files"]:
        assert file["details"]["file_bytes"] == (cli.folder / file["target"]).stat().st_size
    exported = json.loads(cli.run("models", "export", model_id, "model", "--json").stdout)
    assert exported["bytes"] == (cli.folder / "model").stat().st_size


def test_bench_measures_both_operations(cli: Cli, model_id: str) -> None:
    options = ["--model", model_id, "--shape", "2,9,3", "--concurrency", "2", "--seconds", "0.3"]
    found = json.loads(cli.run("--json", "bench", *options).stdout)
    assert [one["operation"] for one in found["operations"]] == ["compress", "decompress"]
    for one in found["operations"]:
        assert one["calls_per_s"] > 0
        assert 0 < one["p50_ms"] <= one["p90_ms"] <= one["p99_ms"]
        assert one["megabytes_per_s"] == pytest.approx(one["calls_per_s"] * 2 * 9 * 3 * 4 / 1e6)


def interrupted() -> bool:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    return True


@pytest.mark.parametrize(
    ("last", "error"), [(interrupted, KeyboardInterrupt), (lambda: False, click.ClickException)]
)
def test_bench_ends_at_once_when_it_is_interrupted_or_a_result_is_wrong(
    last: Callable[[], bool], error: type[BaseException]
) -> None:
    calls = itertools.count()

    def call() -> bool:
        time.sleep(0.001)
        return last() if next(calls) == 100 else True

    began = time.monotonic()
    with pytest.raises(error):
        _load("compress", call, np.zeros(3), 4, 60.0)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "command", ["", "models", "models create", "compress", "decompress", "inspect", "verify", "bench"]
)
def test_help_has_a_sentence_and_every_command_an_example(cli: Cli, command: str) -> None:
    said = cli.run(*command.split(), "--help").stdout
    assert "Usage:" in said
    if command and not command.startswith("models"):
        assert f"entropyd {command} " in said or f"entropyd --json {command} " in said


def test_the_shell_completes_commands_and_the_ids_of_models(cli: Cli, model_id: str) -> None:
    command = [sys.executable, "-c", "from entropyd.cli.__main__ import main; main()"]

    def completed(words: str) -> str:
        environment = {**os.environ, "_ENTROPYD_COMPLETE": "bash_complete", "COMP_WORDS": words}
        environment["COMP_CWORD"] = str(len(words.split()) - 1)
        script = "import sys; sys.argv[0] = 'entropyd'; from entropyd.cli.__main__ import main; main()"
        return subprocess.run(
            [*command[:2], script], env=environment, capture_output=True, text=True, check=False
        ).stdout

    assert "plain,decompress" in completed("entropyd decom")
    assert f"plain,{model_id}" in completed(f"entropyd --server {cli.target} compress --model {model_id[:4]}")


def test_a_bar_is_drawn_for_a_person_and_not_for_a_pipe(
    cli: Cli, model_id: str, x: npt.NDArray[np.float32]
) -> None:
    command = [sys.executable, "-m", "entropyd.cli", "--server", cli.target]
    command += ["compress", "--force", "--model", model_id, "x.npy", "x.entropyd"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    ours, theirs = pty.openpty()
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
    os.close(theirs)
    assert ran.returncode == 0
    assert "compressing x.npy" in os.read(ours, 1 << 16).decode()
    os.close(ours)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["models", "create", "--prior", "NoisyNormal"], 2, "--coding-rank"),
        (["models", "create", "--prior", "Nope", "--coding-rank", "1"], 2, "Nope"),
        ([*CREATE[:4], "-p", "loc=0", "-p", "scale=-1", "--coding-rank", "1"], 1, "prior.scale is -1.0"),
        (["models", "create", "--config", "missing.json"], 1, "missing.json cannot be read"),
        (["compress", "--model", "0" * 64, "missing.npy", "x"], 1, "`entropyd models list` shows"),
        (["compress", "--model", "0" * 64, "-r", "missing", "x"], 1, "missing is not a folder"),
        (["compress", "--model", "0" * 64, "-m", "x", "x.npy", "x"], 2, "NAME=VALUE"),
        (["compress", "--model", "0" * 64, "-m", "entropyd.x=1", "x.npy", "x"], 2, "are reserved"),
        (["decompress", "missing.entropyd", "x.npy"], 1, "missing.entropyd: No such file"),
        (["decompress", "--units", "a:b", "missing.entropyd", "x.npy"], 2, "is not A:B"),
        (["inspect", "missing.entropyd"], 1, "missing.entropyd: No such file"),
        (["verify", "missing.entropyd"], 1, "missing.entropyd: No such file"),
        (["bench", "--shape", "a"], 2, "is not a list of axes"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(
    cli: Cli, arguments: list[str], status: int, message: str
) -> None:
    assert message in cli.run(*arguments, status=status).stderr


def test_without_a_server_the_command_says_how_to_start_one(tmp_path: Path) -> None:
    ran = CliRunner().invoke(entropyd, ["--server", "127.0.0.1:1", "--timeout-s", "20", "models", "list"])
    assert ran.exit_code == 1
    assert "start a server with `entropyd-server`" in ran.stderr
    assert DEFAULT_SERVER in CliRunner().invoke(entropyd, ["--help"]).stdout


def test_files_that_are_something_else_are_refused(cli: Cli, model_id: str) -> None:
    (cli.folder / "x.npy").write_bytes(b"not an array")
    assert "not a .npy file" in cli.run("compress", "--model", model_id, "x.npy", "y", status=1).stderr
    assert "not an entropyd file" in cli.run("decompress", "x.npy", "y.npy", status=1).stderr
    np.save("bad.npy", np.full((2, 3), np.nan, np.float32))
    ended = cli.run("compress", "--model", model_id, "bad.npy", "bad.entropyd", status=1)
    assert "NaN cannot be coded" in ended.stderr
    assert not (cli.folder / "bad.entropyd").exists()
