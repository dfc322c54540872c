"""LEB128 numbers: groups of seven bits, least significant first, the top bit set on all but the last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from entropyd.archive.layout import LayoutError

# Of a number below 2^63: the sum of two does not overflow uint64.
MAX_GROUPS = 9
_WINDOW_BYTES = 1 << 20


def packed_varints(numbers: npt.NDArray[np.uint64]) -> bytes:
    """Renders uint64 [n] numbers below 2^63, one after the other."""
    groups = np.ones(len(numbers), np.int64)
    for shift in range(7, 7 * MAX_GROUPS, 7):
        more = numbers >= np.uint64(1 << shift)
        if not more.any():
            break
        groups += more
    starts = np.cumsum(groups) - groups
    packed = np.empty(int(np.sum(groups)), np.uint8)
    for group in range(int(groups.max(initial=0))):
        has = groups > group
        more = np.where(groups[has] > group + 1, np.uint64(0x80), np.uint64(0))
        packed[starts[has] + group] = numbers[has] >> np.uint64(7 * group) & np.uint64(0x7F) | more
    return packed.tobytes()


def unpacked_varints(content: bytes, max_groups: int = MAX_GROUPS) -> npt.NDArray[np.uint64]:
    """Reads uint64 [n] numbers of at most `max_groups` groups until the end of the content.

    Temporary memory is bounded by what 1 MiB of content takes.
    """
    read, start = [], 0
    while start < len(content):
        window = np.frombuffer(content, np.uint8, min(_WINDOW_BYTES, len(content) - start), start)
        ends = np.flatnonzero(window < 0x80)
        if not len(ends):
            raise LayoutError("has a number that does not end")
        starts = np.concatenate(([0], ends[:-1] + 1))
        groups = ends - starts + 1
        if groups.max() > max_groups:
            raise LayoutError(f"has a number of more than {7 * max_groups} bits")
        whole = int(ends[-1]) + 1
        shift = 7 * (np.arange(whole) - np.repeat(starts, groups))
        shifted = (window[:whole] & 0x7F).astype(np.uint64) << shift.astype(np.uint64)
        read.append(np.add.reduceat(shifted, starts))
        start += whole
    return np.concatenate(read) if read else np.empty(0, np.uint64)
