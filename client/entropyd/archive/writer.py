"""Writes archives.

Invariant: memory is that of one tensor and one block, however many are appended; nothing is written twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd._target import Writable
from entropyd.archive.chunk_headers import ArchiveHeader, IndexHeader
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.exact import ExactElements, exact_dtype_name
from entropyd.archive.file_writer import FileWriter
from entropyd.archive.pending import PendingUnits
from entropyd.archive.units import CompressedUnits
from entropyd.contract.errors import CorruptStringError, InvalidRequestError
from entropyd.contract.integrity import damaged_units

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_METADATA_BYTES = 8 * 2**20


class ArchiveWriter:
    """Writes an archive of compressed tensors, one after the other.

    Use it in a `with` statement: its end finishes the archive, or removes it if there was an error. A process
    that is killed leaves a hidden file `.NAME.*.part`, which `Archive.recover` reads.

    Args:
      target: The file, or a binary stream, which stays open. An existing regular file is replaced when the
        archive is complete, and keeps its mode; a device, a pipe or a socket is written to.
      metadata: JSON values by name, to store with the data. Names that begin with `entropyd.` are reserved.
      model: A model to embed, so that the archive can be decoded without the store that it came from.
      exact_dtype: dtype of exact elements, which is that of the restored array: float16, bfloat16, float32 or
        float64. The archive then has at least format version 2; with None it has no exact elements.

    Raises:
      InvalidRequestError: If the metadata are not JSON, or take more than 8 MiB; at the end, if nothing was
        appended, not even a tensor without items.
      InvalidTensorError: If exact elements can have no such dtype.
      OSError: If the file cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Writable,
        *,
        metadata: Mapping[str, Any] | None = None,
        model: EmbeddedModel | None = None,
        exact_dtype: str | None = None,
    ) -> None:
        self._metadata = dict(metadata or {})
        self._model = model
        _check_metadata(self._metadata)
        self._exact_dtype = None if exact_dtype is None else exact_dtype_name(exact_dtype)
        self._file = FileWriter(target)
        self._header: ArchiveHeader | None = None
        self._units = 0
        self._items = 0
        self._pending = PendingUnits(self._exact_dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        what = "cannot pickle or copy an ArchiveWriter, which is an open file"
        raise TypeError(f"{what}: send the tensors to the process that has it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self._file.__exit__(kind, error, traceback)
        else:
            self._finish()

    @property
    def file_bytes(self) -> int:
        """Bytes written so far; after the `with` statement, those of the whole archive."""
        return self._file.file_bytes

    def append(self, tensor: CompressedUnits, exact: ExactElements | None = None) -> None:
        """Adds a tensor along the first batch axis. One without batch axes is an archive of its own.

        Args:
          tensor: The bit strings.
          exact: Elements of the array to restore exactly, in place of what the bit strings decode to.

        Raises:
          CorruptStringError: If a block of it does not match its checksum.
          InvalidRequestError: If it has another model, dtype or shape than the tensors before, or the exact
            elements have another dtype or size.
          InvalidTensorError: If the exact elements of one coding unit are in about 10 million runs or more.
        """
        header = self._header_for(tensor)
        damaged = damaged_units(tensor.payload, tensor.lengths, tensor.blocks)
        if damaged.any():
            bad = np.flatnonzero(damaged).tolist()
            raise CorruptStringError(f"{len(bad)} coding units do not match their checksum", units=bad)
        if self._header is None:
            self._begin(header)
        self._pending.append(tensor, exact)
        self._items += tensor.batch_shape[0] if tensor.batch_shape else 1
        self._units += len(tensor.lengths)
        if self._pending.fill_a_block:
            self._write_blocks(keep_last=True)

    def _finish(self) -> None:
        with self._file:
            if self._header is None:
                found = "is empty; append at least one tensor, which may have no items"
                raise InvalidRequestError.at("archive", found)
            self._write_blocks(keep_last=False)
            self._file.finish(IndexHeader(self._units, self._items))

    def _header_for(self, tensor: CompressedUnits) -> ArchiveHeader:
        """The header of an archive of that tensor, which must equal the one that is written."""
        header = ArchiveHeader.of(tensor, self._metadata, self._exact_dtype)
        first = self._header
        if first is None:
            model, made_with = self._model, (tensor.model_id, tensor.tables_digest)
            if model is not None and (model.model_id, model.tables_digest) != made_with:
                found = f"embeds model {model.model_id}; the tensor is of {tensor.model_id}"
                raise InvalidRequestError.at("archive", found)
            return header
        if first.item_shape is None:
            raise InvalidRequestError.at("archive", "holds a tensor without batch axes, which takes no other")
        fields = ["model_id", "tables_digest", "dtype", "item_shape", "broadcast_shape"]
        fields += ["index_checksums", "unit_numbers"] if len(tensor.lengths) else []
        for field in fields:
            found, expected = getattr(header, field), getattr(first, field)
            if found != expected:
                raise InvalidRequestError.at("archive", f"has {field} {expected}; the tensor has {found}")
        return first

    def _begin(self, header: ArchiveHeader) -> None:
        self._header = header
        self._file.begin(header.version, header.pack(), [] if self._model is None else [self._model])

    def _write_blocks(self, *, keep_last: bool) -> None:
        """Writes pending units; the last block may stay, as it may still grow."""
        for first_unit, chunk in self._pending.take_blocks(keep_last=keep_last):
            self._file.write_block(first_unit, chunk)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    try:
        document = ArchiveHeader("", b"", "float32", (), (), None, metadata).pack()
    except (ValueError, TypeError) as error:
        raise InvalidRequestError.at("metadata", f"are not JSON: {error}") from error
    if len(document) > MAX_METADATA_BYTES:
        found = f"take {len(document)} bytes of JSON; expected at most {MAX_METADATA_BYTES}"
        raise InvalidRequestError.at("metadata", found)
