"""Checksums of bit strings in blocks.

Invariant: the blocks of a payload cover every coding unit once, and a change of any length or payload byte
changes the checksum of its block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import numpy as np
import numpy.typing as npt

from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_BYTES = 64 * 1024
# Keeps what a block holds bounded where bit strings are empty.
MAX_BLOCK_UNITS = 65536

_LENGTH = np.dtype("<u4")


def make_blocks(payload: bytes, lengths: npt.NDArray[np.uint32]) -> list[types_pb2.Block]:
    """Groups whole coding units into blocks of about 64 KiB and computes their checksums.

    Args:
      payload: All bit strings, one after the other.
      lengths: uint32 vector, the length of each in bytes; they sum to `len(payload)`.
    """
    if len(payload) <= BLOCK_BYTES and 0 < len(lengths) <= MAX_BLOCK_UNITS:
        return [types_pb2.Block(units=len(lengths), crc32c=checksum(payload, lengths))]
    ends = np.cumsum(lengths, dtype=np.int64)
    blocks: list[types_pb2.Block] = []
    first, first_byte = 0, 0
    while first < len(lengths):
        # At least one unit; else as many as end within the block.
        last = max(int(np.searchsorted(ends, first_byte + BLOCK_BYTES, side="right")), first + 1)
        last = min(last, first + MAX_BLOCK_UNITS)
        last_byte = int(ends[last - 1])
        crc32c = checksum(payload[first_byte:last_byte], lengths[first:last])
        blocks.append(types_pb2.Block(units=last - first, crc32c=crc32c))
        first, first_byte = last, last_byte
    return blocks


def damaged_units(
    payload: bytes, lengths: npt.NDArray[np.uint32], blocks: Sequence[types_pb2.Block]
) -> npt.NDArray[np.bool_]:
    """Finds the coding units whose block does not match its checksum.

    Args:
      payload: All bit strings, one after the other.
      lengths: uint32 vector, the length of each in bytes; they sum to `len(payload)`.
      blocks: Their blocks, covering every unit once.

    Returns:
      Boolean vector, True for each unit of a damaged block.
    """
    if len(blocks) == 1:
        make = np.zeros if checksum(payload, lengths) == blocks[0].crc32c else np.ones
        return make(len(lengths), np.bool_)
    damaged = np.zeros(len(lengths), np.bool_)
    ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    first = 0
    for block in blocks:
        last = first + block.units
        chunk = payload[int(ends[first]) : int(ends[last])]
        damaged[first:last] = checksum(chunk, lengths[first:last]) != block.crc32c
        first = last
    return damaged


def checksum(payload: bytes, lengths: npt.NDArray[np.uint32]) -> int:
    """CRC32C of one block: the units' lengths, each as 4 bytes little-endian, then their bit strings."""
    over_lengths = google_crc32c.value(lengths.astype(_LENGTH, copy=False).tobytes())
    return int(google_crc32c.extend(over_lengths, payload))
