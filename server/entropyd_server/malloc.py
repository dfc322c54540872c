"""How much memory there is, and what becomes of memory that is freed."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import psutil

# malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# glibc takes no larger one on 64 bits.
_MMAP_THRESHOLD_BYTES = 32 * 2**20
_TRIM_THRESHOLD_BYTES = 64 * 2**20

# The limit of this process's control group, as a container sees it: version 2, and version 1.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_bytes() -> int:
    """Memory of the machine, or of the container if that is less."""
    limits = [psutil.virtual_memory().total]
    for path in _GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # `max` stands for none
            limits.append(int(Path(path).read_text()))
    return min(limits)


def keep_freed_memory() -> None:
    """Keeps up to 64 MiB per arena of what is freed from now on, and gives back what was freed before.

    By default glibc maps each large array anew, and the kernel clears it page by page: for arrays of 1 MiB
    that was half of the system time of a call. To be called once starting has freed what it used. Other C
    libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
