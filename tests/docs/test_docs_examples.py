"""Every example of README.md, docs and `--help` is run, or stands here with the reason why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click import Command, Group
from click.testing import CliRunner

import entropyd
from entropyd import priors
from entropyd.cli.main import entropyd as command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd_server.local import LocalServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/tutorials/*.md"))]
FENCE = re.compile(r"^```(python|sh|bash|console)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Examples, page and line of their beginning, that other tests run.
ELSEWHERE = {
    ("archive.md", "hyper.compress"): "test_archive_service.py",
    ("README.md", "import numpy as np"): "test_examples.py",
    ("README.md", 'python -c "import numpy as np; np.save'): "test_examples.py",
    ("cli.md", "export ENTROPYD_LOCAL=1"): "test_tours.py",
    ("cli.md", "$ "): "test_tours.py",
    ("team.md", "$ "): "test_tours.py",
    ("index.md", "import numpy as np"): "test_tutorials.py",
    ("rounding.md", "import numpy as np"): "test_tutorials.py",
    ("histogram.md", "import numpy as np"): "test_tutorials.py",
    ("error-bound.md", "import numpy as np"): "test_tutorials.py",
    ("own-codec.md", "import math"): "test_tutorials.py",
    ("tfc-model.md", ""): "test_tfc_drop_in.py",
    ("compressai-model.md", "import torch"): "test_compressai_models.py",
    ("compressai.md", "import torch"): "test_compressai_models.py",
    ("hyperprior.md", "import torch"): "test_torch_rate.py",
    ("security.md", ""): "test_security_page.py",
    ("observability.md", "OTEL_EXPORTER_OTLP_ENDPOINT"): "test_tracing.py",
    ("operations.md", "rsync"): "test_store_check.py",
    ("priors.md", "entropyd fit"): "test_docs_examples.py",
    ("bounded.md", "import numpy as np"): "test_bounded.py",
    ("range-coder.md", "import struct"): "test_range_coder_page.py",
    ("range-coder.md", "def decode_run_lengths"): "test_range_coder_page.py",
    ("rans.md", "def decode"): "test_rans_page.py",
    ("tfc-api.md", "import tensorflow as tf"): "test_tfc_drop_in.py",
    ("zarr.md", "import numpy as np"): "test_zarr.py",
    ("zarr.md", "import xarray"): "test_zarr.py",
    ("dask.md", "import dask.array as da"): "test_dask.py",
    ("dask.md", "from distributed import progress"): "test_dask.py",
    ("dask.md", "import dask\n"): "test_dask.py",
    ("dask.md", "import xarray"): "test_dask.py",
}
NOT_RUN = {
    ("README.md", "git clone"): "fetches the project",
    ("install.md", "python3.11 -m venv"): "the tests' environment is one; tests/matrix installs the extras",
    ("operations.md", "docker build"): "a container engine",
    ("operations.md", "docker exec"): "a container engine",
    ("operations.md", "kind load"): "a cluster",
    ("operations.md", "sudo python3.11"): "root, and a machine of its own",
    ("operations.md", "sudo groupadd"): "root, and a machine of its own",
    ("operations.md", "sudo install -d"): "a container engine",
    ("operations.md", "kubectl apply -f"): "a cluster",
    ("operations.md", "python3 -m entropyd_server.store.check"): "a cluster",
    ("ray.md", "from io import BytesIO"): "Ray, which takes 400 MB and is not installed",
}
# What an example takes for granted.
BEFORE = {
    ("archive.md", "from entropyd import Archive"): """
import numpy as np
parts = np.random.default_rng(0).normal(0, 2, (2, 7000, 4, 3)).astype(np.float32)
compressed = model.compress(parts[0])
""",
    ("archive.md", 'with Archive.open("x'): """
from entropyd import Archive, ArchiveWriter, EmbeddedModel
import numpy as np
with ArchiveWriter("x.entropyd", model=EmbeddedModel.of(model)) as writer:
    writer.append(model.compress(np.zeros((9, 4, 3), np.float32)))
""",
    ("archive.md", "import numpy as np"): """
from entropyd import Archive, ArchiveWriter
import numpy as np
measured = np.full((9, 4, 3), np.nan, np.float32)
""",
    ("archive.md", "import entropyd"): """
from entropyd import EmbeddedModel
import numpy as np
z_model = model
z_strings, y_strings = (model.compress(np.zeros((units, 4, 3), np.float32)) for units in (1, 9))
""",
    ("observability.md", "client = entropyd.Client"): "import entropyd",
    ("replicas.md", 'entropyd.Client("dns:///'): "import entropyd",
    ("hyperprior.md", "import numpy as np"): "",
    ("kinds.md", "import numpy as np"): "",
    ("kinds.md", "prior = priors.indexed"): """
import numpy as np
import entropyd
from entropyd import priors
""",
    ("priors.md", "import numpy as np"): "",
    ("priors.md", "from entropyd import priors"): "",
    ("tables.md", "import numpy as np"): "",
    ("tables.md", "rows = ["): "import entropyd",
    ("python.md", "compressed = model.compress"): """
import numpy as np
x = np.zeros((5, 4, 3))
""",
    ("python.md", "client = entropyd.Client"): "import entropyd",
    ("python.md", "client.create_model(config, name"): "config = model.config",
    ("python.md", "import asyncio"): "",
    ("python.md", "whole = model.compress"): """
import numpy as np
import entropyd
from entropyd import priors
scale = priors.log_spaced(1.0, 9.0)
prior = priors.indexed("NoisyNormal", index_ranges=(4,), loc=0.0, scale=scale)
model = client.create_model(entropyd.UniversalIndexedConfig(prior=prior, coding_rank=1))
rng = np.random.default_rng(0)
y, indexes = rng.normal(0, 3, (110, 6)).astype(np.float32), rng.integers(0, 4, (110, 6, 1))
""",
    ("python.md", "with ProcessPoolExecutor"): """
import multiprocessing
import numpy as np
from concurrent.futures import ProcessPoolExecutor
arrays = [np.zeros((5, 4, 3), np.float32)]
""",
    ("cli.md", 'eval "$(_ENTROPYD_COMPLETE=bash_source'): "",
}
AFTER = {
    ("hyperprior.md", "import numpy as np"): """
assert 0.95 < 8 * len(y_strings.payload) / found.bits.sum() < 1.05
assert all(gradient.shape == y.shape for gradient in gradients)
""",
    ("kinds.md", "import numpy as np"): "assert np.abs(restored - x).max() <= 0.5",
    ("kinds.md", "prior = priors.indexed"): """
assert np.abs(restored - y).max() <= 0.5
assert part.tobytes() == restored[2:].tobytes()
""",
    ("tables.md", "import numpy as np"): "assert np.array_equal(restored, x)",
    ("tables.md", "rows = ["): "assert config.table_rows == 2",
    ("archive.md", "import numpy as np"): "assert np.isnan(part).all()",
    ("archive.md", "import entropyd"): "assert some.batch_shape == (4,)",
    ("priors.md", "import numpy as np"): """
measured = Rates.of(model, samples)
assert 0 <= measured.bits_per_symbol - measured.entropy < 0.05
""",
    ("priors.md", "from entropyd import priors"): """
assert mixture.on_grid().parameters["weight"].shape == (10, 10, 5, 2)
assert scales.on_grid().parameters["scale"].shape == (64,)
""",
    ("python.md", "import asyncio"): "assert model.id == config.model_id",
    ("python.md", "client = entropyd.Client"): "assert client.server_info().symbols",
    ("python.md", "whole = model.compress"): """
assert rest.strings.tolist() == whole.strings[100:].tolist()
restored = model.decompress(whole, indexes)
assert model.decompress(part, indexes[3:7]).tobytes() == restored[3:7].tobytes()
""",
    ("python.md", "with ProcessPoolExecutor"): "assert compressed[0].batch_shape == (5,)",
    ("python.md", "client.create_model(config, name"): """
assert client.model("faces-v2").id == config.model_id
assert "production" not in client.model_names()
""",
    ("observability.md", "client = entropyd.Client"): "assert client.model(model.id).id == model.id",
}


def blocks() -> Iterator[tuple[str, str, str]]:
    """Pages' names, languages and texts of all examples."""
    for page in PAGES:
        for language, _, text in FENCE.findall(page.read_text()):
            yield page.name, language, text


BLOCKS = {f"{page}: {text.splitlines()[0]}": (page, language, text) for page, language, text in blocks()}


def known(page: str, text: str, places: dict[tuple[str, str], str]) -> str | None:
    """What a table says of an example."""
    return next(
        (said for (name, begin), said in places.items() if name == page and text.startswith(begin)), None
    )


def test_every_example_is_run_by_a_test_or_known_not_to_be() -> None:
    assert len(BLOCKS) > 25
    for page, _, text in BLOCKS.values():
        found = [table for table in (ELSEWHERE, NOT_RUN, BEFORE) if known(page, text, table) is not None]
        assert len(found) == 1, (page, text)
    for (page, begin), test in ELSEWHERE.items():
        assert any(name == page and text.startswith(begin) for name, _, text in BLOCKS.values())
        texts = [place.read_text() for place in ROOT.glob(f"tests/*/{test}")]
        assert any(page in text for text in texts), f"{test} does not read {page}"
    for page, begin in [*NOT_RUN, *BEFORE]:
        assert any(name == page and text.startswith(begin) for name, _, text in BLOCKS.values()), begin


RUN = {name: block for name, block in BLOCKS.items() if known(block[0], block[2], BEFORE) is not None}
PYTHON = [name for name, (_, language, _) in RUN.items() if language == "python"]


@pytest.mark.parametrize("name", PYTHON)
def test_an_example_in_python_runs_as_it_is_written(
    server: LocalServer,
    client: entropyd.Client,
    model: entropyd.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
) -> None:
    page, _, text = RUN[name]
    for address in ("127.0.0.1:7070", "localhost:7070"):
        text = text.replace(address, server.target)
    script = "\n".join((known(page, text, BEFORE) or "", text, known(page, text, AFTER) or ""))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"client": client, "model": model}
    exec(script, names)  # noqa: S102 - our own pages
    if names["client"] is not client:
        names["client"].close()


def test_the_shell_completes_after_the_line_for_bashrc() -> None:
    (lines,) = [text for page, language, text in RUN.values() if (page, language) == ("cli.md", "bash")]
    assert "entropyd" in _in_a_shell(f"{lines.splitlines()[0]}\ncomplete -p entropyd")
    assert {"bash_source", "zsh_source", "fish_source"} <= set(re.findall(r"\w+_source", lines))


# Examples of --help


def examples(command: Command) -> Iterator[str]:
    """Lines below `Example:` in the help of a command and of its subcommands."""
    _, _, listed = (command.help or "").partition("Example")
    yield from (line.strip() for line in listed.splitlines() if line.startswith("  "))
    if isinstance(command, Group):
        for subcommand in command.commands.values():
            yield from examples(subcommand)


EXAMPLES = [line for line in dict.fromkeys(examples(command_line)) if line]
EXAMPLES += [
    text.strip() for page, language, text in BLOCKS.values() if (page, language) == ("priors.md", "sh")
]
# Commands that read archives and exported models; the others read arrays, and may make archives.
READ_ARCHIVES = re.compile(r"\b(decompress|inspect|verify|import)\b")
# Programs in examples that are not ours.
PROGRAMS = "make-latents() { cat latents.npy; }; jq() { cat; };"


def test_examples_were_found() -> None:
    assert len(EXAMPLES) >= 25
    for command in command_line.commands:
        assert any(re.search(rf"\bentropyd( --json)? {command}\b", line) for line in EXAMPLES), command


@pytest.fixture
def any_shape(client: entropyd.Client) -> entropyd.Model:
    """A model for units of any shape of three axes; examples may delete it and its name."""
    prior = priors.NoisyNormal(loc=0.0, scale=2.0)
    config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=3)
    return client.create_model(config, name="faces-v2")


@pytest.fixture(scope="module")
def by_scale(client: entropyd.Client) -> entropyd.Model:
    """A model for the examples with indexes."""
    prior = priors.NoisyNormal(loc=0.0, scale=[1.0, 2.0, 4.0])
    return client.create_model(entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=3))


@pytest.fixture(scope="module")
def sources(
    client: entropyd.Client,
    model: entropyd.Model,
    by_scale: entropyd.Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Two folders: `arrays` with what is compressed, `archives` with what it became."""
    folder = tmp_path_factory.mktemp("sources")
    arrays, archives = folder / "arrays", folder / "archives"
    (arrays / "arrays").mkdir(parents=True)
    (archives / "archives").mkdir(parents=True)
    latents = np.random.default_rng(0).normal(0, 2, (12_400, 1, 2, 3)).astype(np.float32)
    for name in ("latents", "monday", "tuesday", "arrays/a"):
        np.save(arrays / f"{name}.npy", latents[:200])
    np.save(arrays / "measured.npy", latents[:200] / 1000)
    np.save(arrays / "gaps.npy", np.where(latents[:200] > 2, np.float32(-9999), latents[:200] / 1000))
    np.save(arrays / "scale.npy", np.array([1, 2, 4], np.float32))
    np.savez(arrays / "rows.npz", rows=[[0, 9, 14, 16], [0, 5, 11, 16]], offsets=[-1, 3])
    (arrays / "model.json").write_text(json.dumps(model.config.to_dict()))
    compressed = model.compress(latents)
    for name in ("latents", "torn", "archives/a"):
        compressed.save(archives / f"{name}.entropyd")
    entropyd.pack({"z": compressed[:9]}).save(archives / "photo.entropyd")
    (archives / "model.safetensors").write_bytes(model.export())
    y, loc = latents[:9], np.full((1, 2, 3), 0.25, np.float32)
    indexes = np.arange(y.size).reshape(y.shape) % 3
    for place in (arrays, archives):
        np.save(place / "i.npy", indexes)
        np.save(place / "loc.npy", loc)
    np.save(arrays / "y.npy", y)
    by_scale.compress(y, indexes, loc).save(archives / "y.entropyd")
    # The model that `models show` has as its example.
    prior = priors.NoisyNormal(loc=0.0, scale=[1.0, 2.0, 4.0])
    client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2))
    return folder


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_of_help_ends_well(
    server: LocalServer,
    any_shape: entropyd.Model,
    *,
    by_scale: entropyd.Model,
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(sources / ("archives" if READ_ARCHIVES.search(line) else "arrays"), folder)
    monkeypatch.chdir(folder)
    # The server, and less patience than by default.
    for name, value in {"SERVER": server.target, "BENCH_SECONDS": "0.1", "FIT_MAX_STEPS": "2"}.items():
        monkeypatch.setenv(f"ENTROPYD_{name}", value)
    monkeypatch.setenv("ENTROPYD_STORE", str(tmp_path / "models"))  # of --local
    line = line.replace("MODEL_ID", (by_scale if "--indexes" in line else any_shape).id)
    if re.search("[|>]", line):
        _in_a_shell(PROGRAMS + line)
        return
    program, *words = shlex.split(line)
    assert program == "entropyd"
    ran = CliRunner().invoke(command_line, words)
    assert ran.exit_code == 0, ran.output


def _in_a_shell(script: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
