"""The examples run as their own text says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from entropyd_server.local import LocalServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_photos_come_back_within_the_promised_error(server: LocalServer, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "photos.py")]
    command += ["--server", server.target, "--output", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "astronaut" in ran.stdout
    assert "promised: 1/2" in ran.stdout
    with Image.open(tmp_path / "photos.png") as picture:
        assert min(picture.size) > 1000
