"""Compiled kernels are those of the sources that are there, and no folder keeps a server from starting."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import entropyd_server.kernels
from entropyd_server.kernels import cached
from entropyd_server.kernels.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(entropyd_server.kernels.__file__).parent
# `search` is compiled from its own module and from `quotient` of another.
USE = """
import numpy as np
from entropyd_server.kernels.single_decoder import INTERVAL, search
intervals = np.array([(0, 0, 0), (25600, 0, 0), (51200, 0, 0)], INTERVAL)
print(search(intervals, 0, 2, 150, 256), sum(search.stats.cache_hits.values()))
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
    quotient = "return long_quotient(ahead << precision, (1 << precision) - 1, size)"
    assert quotient in steps.read_text()
    steps.write_text(steps.read_text().replace(quotient, "return int64(0)"))
    assert found_and_hits() == (0, 0)


def test_kernels_that_were_compiled_before_are_loaded_without_what_only_compiling_needs(
    tmp_path: Path,
) -> None:
    """Of which Numba's implementation of numpy is the largest part: it costs a start time and memory."""
    use = f"{USE}\nimport sys\nprint('numba.np.arraymath' in sys.modules)"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.check_output([sys.executable, "-c", use], env=environment, text=True).split()
        for _ in range(2)
    ]
    assert said == [["1", "0", "True"], ["1", "1", "False"]]


def twice(number: int) -> int:
    return 2 * number


def found_and_hits() -> tuple[int, int]:
    """What the compiled function gives, and whether it was compiled before."""
    compiled: Any = kernel(twice)
    return compiled(21), sum(compiled.stats.cache_hits.values())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """Where kernels are kept in this test."""
    path = tmp_path / "kernels"
    monkeypatch.setattr(cached, "_folder", lambda: path)
    caplog.set_level(logging.WARNING, cached.__name__)
    for warning in (cached._warn_of_damage, cached._warn_of_folder):
        warning.cache_clear()
    return path


def one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize(
    "spoil",
    [lambda content: b"", lambda content: b"garbage" * 20, lambda content: content[:-1], flipped],
    ids=["empty", "garbage", "cut short", "one bit"],
)
def test_a_damaged_file_is_compiled_anew_and_mended(
    folder: Path, caplog: pytest.LogCaptureFixture, pattern: str, spoil: Callable[[bytes], bytes]
) -> None:
    assert [found_and_hits() for _ in range(2)] == [(42, 0), (42, 1)]
    damaged = one(folder, pattern)
    damaged.write_bytes(spoil(damaged.read_bytes()))
    assert not caplog.messages
    assert [found_and_hits() for _ in range(2)] == [(42, 0), (42, 1)]
    (message,) = caplog.messages
    assert f"{folder} are damaged" in message


def test_machine_code_of_other_sources_is_not_taken_where_the_index_alone_was_renewed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk was full after the index had been written."""
    assert found_and_hits() == (42, 0)
    older = one(folder, "*.nbc").read_bytes()
    monkeypatch.setattr(cached, "_stamp", lambda: b"other sources")
    assert found_and_hits() == (42, 0)
    one(folder, "*.nbc").write_bytes(older)
    assert [found_and_hits() for _ in range(2)] == [(42, 0), (42, 1)]


def test_a_folder_that_cannot_be_written_to_costs_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    assert [found_and_hits() for _ in range(3)] == [(42, 0)] * 3
    (message,) = caplog.messages
    assert f"cannot be stored in {folder} (" in message
    assert "NUMBA_CACHE_DIR" in message
    assert "takes some 30 s" in message


def test_a_disk_without_room_costs_one_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        assert [found_and_hits() for _ in range(3)] == [(42, 0)] * 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (message,) = caplog.messages
    assert f"cannot be stored in {folder} (" in message
    assert [found_and_hits() for _ in range(2)] == [(42, 0), (42, 1)]


def test_a_user_without_home_or_rights_to_write_compiles_in_memory(tmp_path: Path) -> None:
    package = tmp_path / "entropyd_server" / "kernels"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (package / "__pycache__", package.parent / "__init__.py"):
        path.touch()  # a file where Python and Numba would make a folder
    left_out = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    for home in ({"HOME": "/proc/nowhere"}, {"HOME": "nowhere"}):
        ran = subprocess.run(
            [sys.executable, "-c", USE],
            env={**environment, "PYTHONPATH": str(tmp_path), **home},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split() == ["1", "0"]
        assert ran.stderr.count("NUMBA_CACHE_DIR") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["entropyd_server"]
