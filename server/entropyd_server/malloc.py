"""The machine's memory, and what the allocator does with freed memory."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import psutil

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The largest that glibc accepts on 64 bits.
_MMAP_THRESHOLD_BYTES = 32 * 2**20
_TRIM_THRESHOLD_BYTES = 64 * 2**20

# Memory limit of a container's control group: version 2, and version 1.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


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
