"""What the machine gives the process: cores, memory, open files and connections, and its end."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from threading import Thread

import psutil

log = logging.getLogger(__name__)

# Above this, some libraries are slow: they loop over all possible descriptors.
_MOST_FILES = 1 << 20
# Each connection takes one descriptor; workers and the store take a few.
_FEW_FILES = 4096
# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The largest that glibc accepts on 64 bits.
_MMAP_THRESHOLD_BYTES = 32 * 2**20
_TRIM_THRESHOLD_BYTES = 64 * 2**20

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Memory limit of a container's control group: version 2, and version 1.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def cores() -> list[int]:
    """The numbers of the cores that this process may use, neighbours next to each other."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def end_with_parent(number: signal.Signals) -> None:
    """On Linux, has the kernel send this process a signal when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def end_with_input() -> None:
    """Has this process receive SIGTERM when its standard input ends; what it reads is ignored."""

    def wait() -> None:
        with contextlib.suppress(OSError):  # such as EIO, of a terminal that is gone
            while os.read(0, 1 << 16):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=wait, name="standard input", daemon=True).start()


def machine_bytes() -> int:
    """Returns the memory of the machine, or of the container if that is less."""
    limits = [psutil.virtual_memory().total]
    for path in _GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" means no limit
            limits.append(int(Path(path).read_text()))
    return min(limits)


def keep_freed_memory() -> None:
    """Returns freed memory to the system once, and keeps up to 64 MiB per arena of what is freed later.

    By default glibc maps each large array anew, and the kernel clears it page by page: for arrays of 1 MiB
    that was half of the system time of a call. Call it when the start has freed its memory. It does nothing
    with other C libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


def raise_file_limit() -> None:
    """Raises the soft limit on open files to the hard one, and warns if that is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        log.warning(
            "this process may open only %d files and connections, and further clients cannot connect: raise "
            "LimitNOFILE or ulimit -n",
            soft,
        )
