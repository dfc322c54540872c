"""Several compressed tensors with names, in memory and in one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from entropyd._target import Writable
from entropyd.archive.bundle import Bundle
from entropyd.archive.chunk_headers import ArchiveHeader, IndexHeader
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.file_header import MAX_DOCUMENT_BYTES, FileHeader, checked_name
from entropyd.archive.file_writer import FileWriter
from entropyd.archive.layout import BUNDLE_VERSION
from entropyd.archive.pending import PendingUnits
from entropyd.archive.tensor import CompressedTensor
from entropyd.archive.units import few
from entropyd.contract.by_value import ByValue
from entropyd.contract.errors import CorruptStringError, InvalidRequestError
from entropyd.contract.integrity import damaged_units


@dataclass(frozen=True, eq=False)
class CompressedBundle(ByValue, Mapping[str, CompressedTensor]):
    """Compressed tensors by name: the parts of one codec's output. `entropyd.pack` makes one.

    Attributes:
      parts: The tensors by name, in the order of the file.
      metadata: JSON values by name.

    Raises:
      InvalidRequestError: If there are no parts, a part is no CompressedTensor, a name is no printable text,
        or the metadata are not JSON or too large.
    """

    parts: Mapping[str, CompressedTensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            raise InvalidRequestError.at("bundle", "has no parts; expected at least one")
        for name, tensor in self.parts.items():
            try:
                checked_name(name)
            except ValueError as error:
                raise InvalidRequestError.at("bundle", str(error)) from error
            if not isinstance(tensor, CompressedTensor):
                found = f"is of type {type(tensor).__name__}; expected a CompressedTensor"
                raise InvalidRequestError.at(f"part {name}", found)
        try:
            document_bytes = len(self._header.document)
        except (ValueError, TypeError) as error:
            raise InvalidRequestError.at("metadata", f"are not JSON: {error}") from error
        if document_bytes > MAX_DOCUMENT_BYTES:
            found = f"take {document_bytes} bytes of JSON; expected at most {MAX_DOCUMENT_BYTES}"
            raise InvalidRequestError.at("bundle", f"parts and metadata {found}")

    def __repr__(self) -> str:
        return f"<entropyd.CompressedBundle {list(self)}>"

    def __getitem__(self, name: str) -> CompressedTensor:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def save(
        self, target: str | os.PathLike[str] | Writable, *, models: Iterable[EmbeddedModel] = ()
    ) -> None:
        """Writes a file, which appears under its name when it is complete.

        Args:
          target: The file, or a binary stream; an existing file is replaced. See ArchiveWriter.
          models: Models of parts, to embed.

        Raises:
          CorruptStringError: If a block of a part does not match its checksum.
          InvalidRequestError: If a model is that of no part.
        """
        self._check_blocks()
        chosen = self._chosen(models)
        with FileWriter(target) as file:
            file.begin(BUNDLE_VERSION, self._header.pack(), chosen)
            for header, tensor in zip(self._header.parts, self.parts.values(), strict=True):
                pending = PendingUnits(first_unit=header.first_unit)
                pending.append(tensor, None)
                for first_unit, chunk in pending.take_blocks(keep_last=False):
                    file.write_block(first_unit, chunk)
            file.finish(IndexHeader(self._header.units, len(self.parts)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompressedBundle:
        """Reads a whole bundle; `Bundle.open` reads parts of one.

        Raises:
          DataLossError: If it is no such file, is cut short, or its header or index is damaged.
          CorruptStringError: If a block of a part is damaged; `.units` names its coding units.
          InvalidRequestError: If it is an archive of one tensor, or a newer version of the format wrote it.
        """
        with Bundle.open(path) as bundle:
            return cls({name: part.read() for name, part in bundle.items()}, bundle.metadata)

    @cached_property
    def _header(self) -> FileHeader:
        parts = [(name, ArchiveHeader.of(part, {}), part.batch_shape) for name, part in self.parts.items()]
        return FileHeader.of_bundle(parts, self.metadata)

    def _check_blocks(self) -> None:
        for name, tensor in self.parts.items():
            damaged = damaged_units(tensor.payload, tensor.lengths, tensor.blocks)
            if damaged.any():
                bad = np.flatnonzero(damaged).tolist()
                what = f"coding units {few(bad)} of part {name} do not match their checksum"
                raise CorruptStringError(what, units=bad)

    def _chosen(self, models: Iterable[EmbeddedModel]) -> list[EmbeddedModel]:
        """The models, each once."""
        chosen = {(model.model_id, model.tables_digest): model for model in models}
        made_with = {(part.model_id, part.tables_digest) for part in self.parts.values()}
        if unused := [model_id for model_id, _ in chosen.keys() - made_with]:
            raise InvalidRequestError.at("models", f"include {unused[0]}, which no part was made with")
        return list(chosen.values())


def pack(
    parts: Mapping[str, CompressedTensor], *, metadata: Mapping[str, Any] | None = None
) -> CompressedBundle:
    """Bundles several compressed tensors, to be saved as one file.

    Args:
      parts: The tensors by name, such as `{"z": z, "y": y}`.
      metadata: JSON values by name, to store with them. Names that begin with `entropyd.` are reserved.

    Raises:
      InvalidRequestError: As CompressedBundle.
    """
    return CompressedBundle(dict(parts), dict(metadata or {}))
