"""Checks whole files, and finds the coding units that are damaged or missing.

Invariant: every byte is read, and a checksum covers it, so any changed bit is a problem in the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from entropyd.archive.blocks import LOST, Index, read_block
from entropyd.archive.chunk_headers import ArchiveHeader
from entropyd.archive.layout import BLOCK, END_MAGIC, EXACT_BLOCK, FOOTER, LayoutError
from entropyd.archive.recovery import recovered_index, walk
from entropyd.archive.source import FileSource, Source
from entropyd.archive.structure import read_header, read_index, read_model
from entropyd.contract.errors import DataLossError

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
      file_bytes: Size of the file.
      units: Coding units that the file has, damaged ones included.
      damaged: Runs of damaged coding units, `(first, last, why)` with `last` included.
      missing_units: Coding units that are known to be missing after those: their block is cut off.
      complete: Whether `units` are all coding units of the file.
      problems: What is wrong with the rest of the file, one sentence each.
      index_checksums: Whether it has checksums of the indexes that its units were coded with.
    """

    file_bytes: int
    units: int
    damaged: tuple[tuple[int, int, str], ...]
    missing_units: int
    complete: bool
    problems: tuple[str, ...]
    index_checksums: bool = False

    @classmethod
    def of_nothing(cls, file_bytes: int, *problems: str) -> Verification:
        """The result for a file without a readable header."""
        return cls(file_bytes, 0, (), 0, complete=False, problems=problems)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.complete and not self.damaged and not self.problems

    @property
    def damaged_units(self) -> int:
        """Number of damaged coding units."""
        return sum(last - first + 1 for first, last, _ in self.damaged)


def verify(path: str | os.PathLike[str], *, progress: Callable[[int], None] | None = None) -> Verification:
    """Reads a file and checks every byte of it.

    Args:
      path: The file.
      progress: Called now and then with the bytes of bit strings that were checked since the last call.

    Raises:
      OSError: If it cannot be opened.
    """
    source = FileSource.open(Path(path))
    try:
        return verify_source(source, progress)
    finally:
        source.close()


def verify_source(source: Source, progress: Callable[[int], None] | None = None) -> Verification:
    """Checks every byte of a source; see `verify`."""
    try:
        return _verified(source, progress)
    except DataLossError as error:  # it changed meanwhile, which voids all results
        return Verification.of_nothing(source.size, str(error))


def _verified(source: Source, progress: Callable[[int], None] | None) -> Verification:
    try:
        header = read_header(source)
    except (LayoutError, OSError) as error:
        return Verification.of_nothing(source.size, f"the file {error}")
    problems = []
    try:
        index = read_index(source, header)
    except (LayoutError, OSError) as error:
        problems.append(f"the file {error}")
        try:
            index = recovered_index(source, header)
        except LayoutError as lost:
            return Verification.of_nothing(source.size, *problems, f"the file {lost}")
    try:
        read_model(source, header)
    except (LayoutError, OSError) as error:
        problems.append(f"the file {error}")
    try:
        problems += _other_problems(source, index)
    except OSError as error:
        problems.append(f"the file cannot be read: {error.strerror}")
    damaged = _damaged(source, header, index, progress)
    return Verification(
        source.size,
        index.units,
        damaged,
        index.torn_units,
        index.complete,
        tuple(problems),
        header.index_checksums,
    )


def _damaged(
    source: Source, header: ArchiveHeader, index: Index, progress: Callable[[int], None] | None
) -> tuple[tuple[int, int, str], ...]:
    damaged: list[tuple[int, int, str]] = []
    for number in range(len(index.entries)):
        block = read_block(source, header, index.place(number))
        if progress is not None:
            progress(len(block.payload))
        if block.damage is None:
            continue
        last = block.end_unit - 1
        if damaged and damaged[-1][1:] == (block.first_unit - 1, block.damage):
            damaged[-1] = (damaged[-1][0], last, block.damage)
        else:
            damaged.append((block.first_unit, last, block.damage))
    return tuple(damaged)


def _other_problems(source: Source, index: Index) -> list[str]:
    """Problems of the chunks that are not blocks, and of bytes between chunks."""
    has_footer = source.read_at(max(source.size - FOOTER.size, 0), FOOTER.size).endswith(END_MAGIC)
    blocks = (offset for offset in map(int, index.entries["offset"]) if offset != LOST)
    block = next(blocks, None)
    problems = []
    for chunk in walk(source, source.size - FOOTER.size if has_footer else source.size):
        while block is not None and block < chunk.offset:
            block = next(blocks, None)
        if chunk.offset == block:
            continue  # a damaged block is reported by its units
        frame = chunk.frame
        if frame is None or chunk.problem is not None:
            problems.append(f"at byte {chunk.offset}, the file {chunk.problem}")
        elif frame.kind in {BLOCK, EXACT_BLOCK}:
            problems.append(f"at byte {chunk.offset} is a block that the index does not have")
        elif _crc32c(source, chunk.offset + frame.data_offset, frame.data_bytes) != frame.data_crc32c:
            problems.append(f"at byte {chunk.offset}, the data of a chunk do not match their checksum")
    return problems


def _crc32c(source: Source, offset: int, count: int) -> int:
    crc32c = 0
    for first in range(offset, offset + count, _READ_BYTES):
        crc32c = google_crc32c.extend(crc32c, source.read_at(first, min(_READ_BYTES, offset + count - first)))
    return crc32c
