"""The bare client on a current Python, with a current protobuf and without TensorFlow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import entropyd
    from entropyd_server.local import LocalServer

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import importlib.metadata, importlib.util, json, sys
import numpy as np
import entropyd
from entropyd import priors

target, model_id, folder = sys.argv[1:]
prior = priors.NoisyLaplace(loc=[0.0, 0.5], scale=[1.0, 3.0])
config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2)
with entropyd.Client(target) as client:
    model = client.create_model(config)
    x = np.random.default_rng(0).normal(0, 3, (4, 5, 2)).astype(np.float32)
    compressed = model.compress(x)
    compressed.save(folder + "/x.entropyd")
    restored = model.decompress(entropyd.CompressedTensor.load(folder + "/x.entropyd"))
    try:
        client.model(model_id).compress(np.full((1, 3), np.nan, np.float32))
        error = None
    except entropyd.InvalidTensorError as raised:
        error = [raised.reason, str(raised)]
print(json.dumps({
    "python": sys.version_info[:2],
    "protobuf": importlib.metadata.version("protobuf"),
    "tensorflow": importlib.util.find_spec("tensorflow") is not None,
    "largest_error": float(np.abs(x - restored).max()),
    "same_id": model.id == config.model_id,
    "error": error,
}))
"""


def python313() -> str | None:
    """A Python 3.13 that runs; a version manager's shim on the path may not."""
    candidates: list[str | Path | None] = [
        shutil.which("python3.13"),
        *Path.home().glob(".pyenv/versions/3.13*/bin/python3.13"),
    ]
    for candidate in candidates:
        if candidate is None:
            continue
        asked = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if asked.stdout.startswith("Python 3.13"):
            return str(candidate)
    return None


def test_the_client_works_on_python_3_13_with_protobuf_7(
    server: LocalServer, model: entropyd.Model, tmp_path: Path
) -> None:
    python = python313()
    if python is None:
        pytest.skip("no Python 3.13 here: whether the client works on it was NOT tested")
    environment = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", environment], check=True)
    inside = str(environment / "bin" / "python")
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, str(ROOT), "protobuf>=7,<8"], check=True)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [inside, str(script), server.target, model.id, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["python"] == [3, 13]
    assert said["protobuf"].startswith("7.")
    assert not said["tensorflow"]
    assert said["largest_error"] <= 0.5 + 1e-6
    assert said["same_id"]
    assert said["error"][0] == "INVALID_TENSOR"
    assert "NaN" in said["error"][1]


def test_importing_the_client_imports_neither_tensorflow_nor_numba() -> None:
    script = (
        "import sys, entropyd, entropyd.priors; print('tensorflow' in sys.modules, 'numba' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
