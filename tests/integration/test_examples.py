"""The examples run as their own text says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from entropyd_server.local import LocalServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_readmes_example_runs_as_it_is_written(server: LocalServer, tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert '"127.0.0.1:7070"' in code
    script = tmp_path / "example.py"
    script.write_text(code.replace('"127.0.0.1:7070"', repr(server.target)))
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "bits per symbol" in ran.stdout


def test_the_encoder_learns_from_the_remote_gradient(server: LocalServer) -> None:
    command = [sys.executable, str(EXAMPLES / "encoder.py"), "--server", server.target, "--steps", "60"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    losses = [float(line.split()[3]) for line in ran.stdout.splitlines()[1:] if len(line.split()) == 4]
    assert len(losses) == 10
    assert losses[-1] < 0.95 * losses[0]
    assert "coded in whole bytes" in ran.stdout


def test_a_scale_for_each_element_is_coded_at_the_entropy(server: LocalServer) -> None:
    source = EXAMPLES / "indexed.py"
    _, _, code = source.read_text().split('"""')
    assert len([line for line in code.splitlines() if line and not line.startswith("#")]) <= 25
    command = [sys.executable, str(source), "--server", server.target]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    entropy, bits, error = (float(number) for number in re.findall(r"[\d.]+", ran.stdout))
    assert entropy < bits < 1.001 * entropy
    assert error <= 0.5


def test_a_photos_coefficients_are_coded_at_the_entropy_of_their_histograms(server: LocalServer) -> None:
    source = EXAMPLES / "histogram.py"
    _, _, code = source.read_text().split('"""')
    assert len([line for line in code.splitlines() if line and not line.startswith("#")]) <= 30
    command = [sys.executable, str(source), "--server", server.target]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    entropy, bits, _, error = (float(number) for number in re.findall(r"[\d.]+", ran.stdout))
    assert entropy < bits < 1.005 * entropy
    assert error == 0


def test_a_transform_learns_from_the_rate_of_the_server(server: LocalServer) -> None:
    command = [sys.executable, str(EXAMPLES / "rate_tfc.py"), "--server", server.target, "--steps", "100"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = re.findall(r"([\d.]+) bits, squared error ([\d.]+)", ran.stdout)
    before, after = (float(bits) + 12 * float(error) for bits, error in found)
    assert after < 0.6 * before


def test_the_readmes_example_passes_strict_type_checks(tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "readme.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "readme.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_readmes_commands_run_as_they_are_written(server: LocalServer, tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    (tour,) = [
        block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "entropyd models" in block
    ]
    np.save(tmp_path / "latents.npy", np.random.default_rng(0).normal(0, 2, (9, 20, 3)).astype(np.float32))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "ENTROPYD_SERVER": server.target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    restored = np.load(tmp_path / "restored.npy")
    assert restored.shape == (9, 20, 3)
    np.testing.assert_array_equal(np.load(tmp_path / "some.npy"), restored[3:7])
