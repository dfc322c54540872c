"""Whether a file is what its writer wrote, and if not, which coding units are damaged.

Owns `verify`. It must not know a server. Invariant: every byte of the file is read and under a checksum, so
any changed bit is a problem in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c

from entropyd.archive.blocks import LOST, read_block
from entropyd.archive.layout import BLOCK, END_MAGIC, FOOTER, PREFIX, LayoutError, check_prefix
from entropyd.archive.recovery import recovered_index, walk
from entropyd.archive.source import FileSource
from entropyd.archive.structure import read_header, read_index, read_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from entropyd.archive.blocks import Index
    from entropyd.archive.source import Source

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
      file_bytes: Size of the file.
      units: Coding units that the file holds, as far as can be told.
      damaged: Runs of damaged coding units, `(first, last, why)` with `last` included.
      problems: What is wrong with the rest of the file, one sentence each.
    """

    file_bytes: int
    units: int
    damaged: tuple[tuple[int, int, str], ...]
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damaged and not self.problems

    @property
    def damaged_units(self) -> int:
        """Number of damaged coding units."""
        return sum(last - first + 1 for first, last, _ in self.damaged)


def verify(path: str | os.PathLike[str], *, progress: Callable[[int], None] | None = None) -> Verification:
    """Reads a whole file and checks every byte of it.

    Args:
      path: The file.
      progress: Is told, now and then, how many bytes of bit strings were checked since.

    Raises:
      OSError: If it cannot be opened.
    """
    source = FileSource(Path(path))
    try:
        return verify_source(source, progress)
    finally:
        source.close()


def verify_source(source: Source, progress: Callable[[int], None] | None = None) -> Verification:
    """See `verify`."""
    try:
        check_prefix(source.read_at(0, PREFIX.size))
        header = read_header(source)
    except (LayoutError, OSError) as error:
        return Verification(source.size, 0, (), (f"the file {error}",))
    problems = []
    try:
        index = read_index(source, header)
    except (LayoutError, OSError) as error:
        problems.append(f"the file {error}")
        try:
            index = recovered_index(source, header)
        except LayoutError as lost:
            return Verification(source.size, 0, (), (*problems, f"the file {lost}"))
    try:
        read_model(source, header)
    except (LayoutError, OSError) as error:
        problems.append(f"the file {error}")
    problems += _other_problems(source, index)
    return Verification(source.size, index.units, _damaged(source, index, progress), tuple(problems))


def _damaged(
    source: Source, index: Index, progress: Callable[[int], None] | None
) -> tuple[tuple[int, int, str], ...]:
    damaged: list[tuple[int, int, str]] = []
    for number in range(len(index.entries)):
        block = read_block(source, index.place(number))
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
    """Problems of the chunks that are no blocks, and of what stands where no chunk should be."""
    has_footer = source.read_at(max(source.size - FOOTER.size, 0), FOOTER.size).endswith(END_MAGIC)
    blocks = (offset for offset in map(int, index.entries["offset"]) if offset != LOST)
    block = next(blocks, None)
    problems = []
    for offset, frame, content in walk(source, source.size - FOOTER.size if has_footer else source.size):
        while block is not None and block < offset:
            block = next(blocks, None)
        if offset == block:
            continue  # whether it is good or damaged, it is reported by its units
        if frame is None:
            problems.append(f"at byte {offset}, the file {content.decode()}")
        elif frame.kind == BLOCK:
            problems.append(f"at byte {offset} is a block that the index does not have")
        elif _crc32c(source, offset + frame.data_offset, frame.data_bytes) != frame.data_crc32c:
            problems.append(f"at byte {offset}, the data of a chunk do not match their checksum")
    return problems


def _crc32c(source: Source, offset: int, count: int) -> int:
    crc32c = 0
    for first in range(offset, offset + count, _READ_BYTES):
        crc32c = google_crc32c.extend(crc32c, source.read_at(first, min(_READ_BYTES, offset + count - first)))
    return crc32c
