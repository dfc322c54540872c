"""Compiled kernels are those of the sources that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import entropyd_server.kernels

PACKAGE = Path(entropyd_server.kernels.__file__).parent
# `_search` is compiled from its own module and from `quotient` of another.
USE = """
import numpy as np
from entropyd_server.kernels.lone_decoder import INTERVAL, _search
intervals = np.array([(0, 0, 0), (25600, 0, 0), (51200, 0, 0)], INTERVAL)
print(_search(intervals, 0, 2, 150, 256), sum(_search.stats.cache_hits.values()))
"""


def test_what_is_compiled_from_another_module_is_compiled_anew_when_that_changes(tmp_path: Path) -> None:
    package = tmp_path / "entropyd_server" / "kernels"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package.parent / "__init__.py").touch()

    def found_and_hits() -> tuple[int, int]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-c", USE]
        found, hits = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True).split()
        return int(found), int(hits)

    assert found_and_hits() == (1, 0)
    assert found_and_hits() == (1, 1)
    steps = package / "decoder_steps.py"
    quotient = "return int64(np.uint64((ahead << (precision + 16)) | low) // np.uint64(size << 16))"
    assert quotient in steps.read_text()
    steps.write_text(steps.read_text().replace(quotient, "return int64(0)"))
    assert found_and_hits() == (0, 0)
