"""Writing archives.

Owns `ArchiveWriter`. It must not know where compressed tensors come from. Invariant: memory is that of one
tensor and one block, however many are appended; nothing is ever written twice; and a file appears under its
name when it is complete and on the disk, or not at all.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from entropyd.archive.heads import BlockHead, Header, IndexHead
from entropyd.archive.layout import BLOCK, ENTRY, HEAD, INDEX, MODEL, pack_chunk, pack_footer, pack_prefix
from entropyd.contract.errors import CorruptStringError, InvalidRequestError, Violation
from entropyd.contract.integrity import BLOCK_BYTES, MAX_BLOCK_UNITS, damaged_units, make_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd.archive.embedded import EmbeddedModel
    from entropyd.archive.tensor import CompressedTensor

MAX_METADATA_BYTES = 8 * 2**20


class ArchiveWriter:
    """Writes an archive from compressed tensors that come one after the other.

    Use it in a `with` statement: leaving it without an error finishes the archive, leaving it with one takes
    back what was written. What a process leaves behind that is killed in between is a hidden file
    `.NAME.*.part`, which `Archive.recover` reads.

    Args:
      target: The file, which is replaced if it is there; or a binary stream, as a pipe, which is left open.
      metadata: JSON values by name, to be kept with the data. Names that begin with `entropyd.` are ours.
      model: The model, to be embedded, so that the archive decodes without the store that it came from.

    Raises:
      InvalidRequestError: If the metadata are no JSON, or more than 8 MiB of it; at the end, if nothing was
        appended, not even a tensor without items.
      OSError: If the file cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        metadata: Mapping[str, Any] | None = None,
        model: EmbeddedModel | None = None,
    ) -> None:
        self._metadata = dict(metadata or {})
        self._model = model
        _check_metadata(self._metadata)
        self._file: _ReplacedFile | _OpenStream = (
            _ReplacedFile(Path(target)) if isinstance(target, (str, os.PathLike)) else _OpenStream(target)
        )
        self._header: Header | None = None
        self._entries: list[npt.NDArray[Any]] = []
        self._recent: list[tuple[int, int]] = []
        self._offset = 0
        self._units = 0
        self._items = 0
        self._payload = b""
        self._lengths = np.empty(0, np.uint32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._file.discard()
        else:
            self._finish()

    @property
    def file_bytes(self) -> int:
        """Bytes written so far; after the `with` statement, those of the whole archive."""
        return self._offset

    def append(self, tensor: CompressedTensor) -> None:
        """Adds a tensor along the first batch axis. One without batch axes is an archive of its own.

        Raises:
          CorruptStringError: If a block of it does not match its checksum.
          InvalidRequestError: If it is of another model, dtype or shape than the ones before.
        """
        header = self._header_for(tensor)
        damaged = damaged_units(tensor.payload, tensor.lengths, tensor.blocks)
        if damaged.any():
            bad = np.flatnonzero(damaged).tolist()
            raise CorruptStringError(f"{len(bad)} coding units do not match their checksum", units=bad)
        if self._header is None:
            self._begin(header)
        self._items += tensor.batch_shape[0] if tensor.batch_shape else 1
        self._payload = b"".join((self._payload, tensor.payload))
        self._lengths = np.concatenate((self._lengths, tensor.lengths))
        if len(self._payload) > BLOCK_BYTES or len(self._lengths) > MAX_BLOCK_UNITS:
            self._write_blocks(keep_last=True)

    def _finish(self) -> None:
        try:
            if self._header is None:
                raise _invalid("is empty; append at least one tensor, which may have no items")
            self._write_blocks(keep_last=False)
            self._fold_entries()
            index_offset = self._offset
            index = np.concatenate([np.empty(0, ENTRY), *self._entries])
            self._write(pack_chunk(INDEX, IndexHead(self._units, self._items).pack(), index.tobytes()))
            footer_bytes = len(pack_footer(0, 0))
            self._write(pack_footer(index_offset, self._offset + footer_bytes))
            self._file.finish()
        except BaseException:
            self._file.discard()
            raise

    def _header_for(self, tensor: CompressedTensor) -> Header:
        """The header that the tensor asks for; it must be the one that is written."""
        symbols = tensor.rate.symbols if tensor.rate is not None else 0
        known = bool(symbols) and len(tensor.lengths) > 0
        header = Header(
            tensor.model_id,
            tensor.tables_digest,
            tensor.dtype,
            tensor.batch_shape[1:] if tensor.batch_shape else None,
            tensor.broadcast_shape,
            symbols // len(tensor.lengths) if known else None,
            self._metadata,
        )
        first = self._header
        if first is None:
            embedded = self._model
            if embedded is not None and (embedded.model_id, embedded.tables_digest) != (
                tensor.model_id,
                tensor.tables_digest,
            ):
                raise _invalid(f"embeds model {embedded.model_id}; the tensor is of {tensor.model_id}")
            return header
        if first.item_shape is None:
            raise _invalid("holds a tensor without batch axes, which takes no other")
        for field in ("model_id", "tables_digest", "dtype", "item_shape", "broadcast_shape"):
            found, expected = getattr(header, field), getattr(first, field)
            if found != expected:
                raise _invalid(f"has {field} {expected}; the tensor has {found}")
        return first

    def _begin(self, header: Header) -> None:
        self._header = header
        self._write(pack_prefix())
        self._write(pack_chunk(HEAD, header.pack()))
        if self._model is not None:
            self._write(pack_chunk(MODEL, *self._model.pack()))

    def _write_blocks(self, *, keep_last: bool) -> None:
        """Writes the units that wait; the last block may still grow, and waits on."""
        ends = np.concatenate(([0], np.cumsum(self._lengths, dtype=np.int64)))
        blocks = make_blocks(self._payload, self._lengths)
        first = 0
        for block in blocks[:-1] if keep_last else blocks:
            last = first + block.units
            head = BlockHead(self._units, self._lengths[first:last]).pack()
            payload = self._payload[int(ends[first]) : int(ends[last])]
            self._recent.append((self._offset, self._units))
            self._write(pack_chunk(BLOCK, head, payload, block.crc32c))
            self._units += block.units
            first = last
        self._payload = self._payload[int(ends[first]) :]
        self._lengths = self._lengths[first:]
        if len(self._recent) >= 4096:
            self._fold_entries()

    def _fold_entries(self) -> None:
        # Tuples take ten times the memory of the array.
        self._entries.append(np.array(self._recent, ENTRY))
        self._recent.clear()

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._offset += len(content)


class _ReplacedFile:
    """A file that takes its name when it is finished."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        # Opened by hand for the permissions: those that any new file of this process has.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self._temporary, flags, 0o666), "wb")

    def write(self, content: bytes) -> None:
        self._file.write(content)

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._target)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, must outlive a power cut
        finally:
            os.close(folder)

    def discard(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class _OpenStream:
    """A stream of somebody else's."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, content: bytes) -> None:
        self._stream.write(content)

    def finish(self) -> None:
        self._stream.flush()

    def discard(self) -> None:
        """What went down a pipe cannot be taken back; without its end it is not taken for an archive."""


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    try:
        document = Header("", b"", "float32", (), (), None, metadata).pack()
    except (ValueError, TypeError) as error:
        raise InvalidRequestError.of([Violation("metadata", f"are no JSON: {error}")]) from error
    if len(document) > MAX_METADATA_BYTES:
        found = f"take {len(document)} bytes of JSON; expected at most {MAX_METADATA_BYTES}"
        raise InvalidRequestError.of([Violation("metadata", found)])


def _invalid(description: str) -> InvalidRequestError:
    return InvalidRequestError.of([Violation("archive", description)])
