"""Compiles the kernels in several processes at once, where none are stored yet.

Numba compiles on one core, and holds the interpreter meanwhile, so that a server could not even say that it
starts. `python -m entropyd_server.coding.compilation` compiles what is missing, and checks it; with the name
of a part it is one of the processes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress

from entropyd_server.coding.self_test import Part, warm_up
from entropyd_server.kernels.cached import could_be_stored
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.machine import cores, end_with_parent


def compile_kernels() -> None:
    """Compiles all kernels and stores them, if there are several cores, a folder for them, and none in it.

    What a process could not compile or store is compiled where it is first used, which says why.
    """
    # It takes longest to compile, so no process is as good as done when it is there.
    if len(cores()) == 1 or not could_be_stored(decode_units):
        return
    running: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(OSError):  # no further process can be started
            for part in Part:
                running.append(_started(part))  # noqa: PERF401 - those that were started are ended
        for process in running:
            process.wait()
    finally:
        for process in running:
            process.kill()
            process.wait()


def _started(part: Part) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "entropyd_server.coding.compilation", part.value]
    nowhere = subprocess.DEVNULL
    # In a session of its own: Ctrl-C is for this process, which ends the others.
    return subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        end_with_parent(signal.SIGKILL)
        warm_up([Part(sys.argv[1])])
    else:
        compile_kernels()
        warm_up()
