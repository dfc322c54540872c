"""A worker process needs its server."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_worker_whose_server_has_ended_does_not_start() -> None:
    ours, theirs = os.pipe()
    os.close(theirs)
    limits = ["--cuda-visible-devices=-1", "--max-model-bytes=1024", "--max-build-memory-bytes=1024"]
    command = [sys.executable, "-m", "entropyd_server.modeling.worker", *limits]
    ended = subprocess.run(command, stdin=ours, capture_output=True, text=True, check=False)
    os.close(ours)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "the server ended before its worker had started\n"
