"""Checks whole files, and finds the coding units that are damaged or missing.

Invariant: every byte is read, and a checksum covers it, so any changed bit is a problem in the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from entropyd.archive.blocks import LOST, Index, read_block
from entropyd.archive.chunk_headers import ArchiveHeader
from entropyd.archive.file_header import FileHeader
from entropyd.archive.layout import BLOCK, END_MAGIC, EXACT_BLOCK, FOOTER, LayoutError
from entropyd.archive.recovery import recovered_indexes, walk
from entropyd.archive.source import FileSource, Source
from entropyd.archive.structure import OTHER_MODEL, embedded_models, read_header, read_indexes
from entropyd.contract.errors import DataLossError

_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class VerifiedUnits:
    """What `verify` found of the coding units of a file, or of a part of a bundle.

    Attributes:
      units: Coding units that are there, damaged ones included.
      damaged: Runs of damaged coding units, `(first, last, why)` with `last` included.
      missing_units: Coding units that are known to be missing after those.
      complete: Whether `units` are all.
      index_checksums: Whether there are checksums of the indexes that they were coded with.
    """

    units: int = 0
    damaged: tuple[tuple[int, int, str], ...] = ()
    missing_units: int = 0
    complete: bool = False
    index_checksums: bool = False

    @property
    def damaged_units(self) -> int:
        """Number of damaged coding units."""
        return sum(last - first + 1 for first, last, _ in self.damaged)


@dataclass(frozen=True, kw_only=True)
class Verification(VerifiedUnits):
    """What `verify` found of a file. Its coding units are those of all parts of a bundle, numbered through.

    Attributes:
      file_bytes: Size of the file.
      problems: What is wrong with the rest of the file, one sentence each.
      parts: The same of each part of a bundle, by name, with units numbered from 0; empty for an archive.
    """

    file_bytes: int
    problems: tuple[str, ...] = ()
    parts: Mapping[str, VerifiedUnits] = field(default_factory=dict)

    @classmethod
    def of_nothing(cls, file_bytes: int, *problems: str) -> Verification:
        """The result for a file without a readable header."""
        return cls(file_bytes=file_bytes, problems=problems)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.complete and not self.damaged and not self.problems


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
        file = read_header(source)
    except (LayoutError, OSError) as error:
        return Verification.of_nothing(source.size, f"the file {error}")
    problems = []
    try:
        indexes = read_indexes(source, file)
    except (LayoutError, OSError) as error:
        problems.append(f"the file {error}")
        try:
            indexes = recovered_indexes(source, file)
        except LayoutError as lost:
            return Verification.of_nothing(source.size, *problems, f"the file {lost}")
    try:
        problems += _problems_of_models(source, file)
    except (LayoutError, OSError) as error:
        problems.append(f"the file {error}")
    try:
        problems += _other_problems(source, indexes)
    except OSError as error:
        problems.append(f"the file cannot be read: {error.strerror}")
    parts = [
        VerifiedUnits(
            units=index.units,
            damaged=_damaged(source, part, index, progress),
            missing_units=index.torn_units,
            complete=index.complete,
            index_checksums=part.index_checksums,
        )
        for part, index in zip(file.parts, indexes, strict=True)
    ]
    return Verification(
        units=sum(part.units for part in parts),
        damaged=tuple(
            (header.first_unit + first, header.first_unit + last, why)
            for header, part in zip(file.parts, parts, strict=True)
            for first, last, why in part.damaged
        ),
        missing_units=sum(part.missing_units for part in parts),
        complete=all(part.complete for part in parts),
        index_checksums=all(part.index_checksums for part in parts),
        file_bytes=source.size,
        problems=tuple(problems),
        parts=dict(zip(file.names or (), parts, strict=False)),
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


def _problems_of_models(source: Source, file: FileHeader) -> list[str]:
    expected = {(part.model_id, part.tables_digest) for part in file.parts}
    problems = []
    for model in embedded_models(source):
        if isinstance(model, LayoutError):
            problems.append(f"the file {model}")
        elif (model.model_id, model.tables_digest) not in expected:
            problems.append(f"the file {OTHER_MODEL}")
    return problems


def _other_problems(source: Source, indexes: Sequence[Index]) -> list[str]:
    """Problems of the chunks that are not blocks, and of bytes between chunks."""
    has_footer = source.read_at(max(source.size - FOOTER.size, 0), FOOTER.size).endswith(END_MAGIC)
    offsets = (int(offset) for index in indexes for offset in index.entries["offset"])
    blocks = (offset for offset in offsets if offset != LOST)
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
