"""Laws of compiling kernels in several processes: all are compiled, stored once, and no process is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from entropyd_server.coding import compilation
from entropyd_server.coding.compilation import compile_kernels
from entropyd_server.coding.self_test import Part, warm_up
from entropyd_server.kernels.cached import could_be_stored
from entropyd_server.kernels.range_decoder import decode_units

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURES = """
import sys
from numba.core.dispatcher import Dispatcher
from entropyd_server.coding.self_test import Part, warm_up

def compiled():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("entropyd_server.")]
    found = {each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)}
    return {(each.py_func.__qualname__, *each.signatures) for each in found}

for part in Part:
    warm_up([part])
of_parts = compiled()
warm_up()
print(len(of_parts) > 10 and compiled() == of_parts)
"""
# Each process compiles one kernel for other types than the others do, and takes its time between reading the
# kernel's index and writing it.
STORES = """
import sys
import time
import numpy as np
from entropyd_server.kernels.cached import _DigestedFiles
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.row_choice import widen_rows

load = _DigestedFiles._load_index

def load_slowly(files):
    index = load(files)
    time.sleep(0.5)
    return index

_DigestedFiles._load_index = load_slowly
plane = kernel_input(np.zeros(1, sys.argv[1]))
sys.stdin.read()
widen_rows(plane, 2, np.zeros(1, np.int32))
"""
LOADS = """
import json
import numpy as np
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.row_choice import widen_rows
for dtype in ("uint8", "uint16", "int32", "int64"):
    widen_rows(kernel_input(np.zeros(1, dtype)), 2, np.zeros(1, np.int32))
print(json.dumps([sum(widen_rows.stats.cache_hits.values()), sum(widen_rows.stats.cache_misses.values())]))
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started, on a machine of several cores on which no kernel is stored."""
    found: list[subprocess.Popen[bytes]] = []
    start = compilation._started

    def noted(part: Part) -> subprocess.Popen[bytes]:
        found.append(start(part))
        return found[-1]

    monkeypatch.setattr(compilation, "_started", noted)
    monkeypatch.setattr(compilation, "cores", lambda: [0, 1])
    monkeypatch.setattr(compilation, "could_be_stored", lambda _: True)
    return found


def test_the_parts_compile_all_that_the_whole_needs() -> None:
    ran = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, check=False)
    assert ran.stdout == "True\n", ran.stderr


def test_every_part_has_a_process_that_succeeds(started: list[subprocess.Popen[bytes]]) -> None:
    compile_kernels()
    assert [process.returncode for process in started] == [0] * len(Part)


def test_nothing_is_started_on_one_core_or_where_kernels_are_stored(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "cores", lambda: [0])
    compile_kernels()
    monkeypatch.setattr(compilation, "cores", lambda: [0, 1])
    monkeypatch.setattr(compilation, "could_be_stored", could_be_stored)
    warm_up()
    assert not could_be_stored(decode_units)
    compile_kernels()
    assert started == []


def test_whoever_interrupts_ends_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[subprocess.Popen[bytes]] = []

    def endless(_: Part) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen(["sleep", "600"]))
        return running[-1]

    monkeypatch.setattr(compilation, "_started", endless)
    monkeypatch.setattr(compilation, "cores", lambda: [0, 1])
    monkeypatch.setattr(compilation, "could_be_stored", lambda _: True)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        compile_kernels()
    assert [process.returncode for process in running] == [-signal.SIGKILL] * len(Part)


def test_processes_that_store_one_kernel_at_a_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    environment: dict[str, Any] = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    storing = [
        subprocess.Popen(
            [sys.executable, "-c", STORES, dtype],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for dtype in ("uint8", "uint16", "int32", "int64")
    ]
    for process in storing:
        assert process.stdin is not None
        process.stdin.close()
    for process in storing:
        assert process.stderr is not None
        assert process.wait() == 0, process.stderr.read()
        process.stderr.close()
    hits, misses = json.loads(subprocess.check_output([sys.executable, "-c", LOADS], env=environment))
    assert (hits, misses) == (4, 0)
