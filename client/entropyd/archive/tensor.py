"""Compressed tensors in memory, from the wire and from files.

Invariant: a block that does not match its checksum is an error, also of a slice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd._html import described
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.reader import ArchiveReader
from entropyd.archive.units import CompressedUnits, RateReport, few, numbers_of, runs_of
from entropyd.archive.writer import ArchiveWriter
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.errors import CorruptStringError, InvalidRequestError, InvalidTensorError
from entropyd.contract.integrity import damaged_units, make_blocks
from entropyd.contract.wire import FORMAT_VERSION, dtype_name, dtype_number, shape_from_message
from entropyd.v1 import coding_pb2, types_pb2

if TYPE_CHECKING:
    from typing_extensions import Self

_LARGEST_NUMBER = 2**63 - 1


class CompressedTensor(CompressedUnits):
    """The bit strings of an array's coding units, and all that is needed to decode them.

    Index it like the batch to select coding units: `compressed[3:7]`, `compressed[0, 2]`.

    Attributes:
      model_id: Config hash of the model.
      tables_digest: SHA-256 of the model's coding tables, 32 bytes.
      dtype: Name of the array's dtype.
      batch_shape: Axes left of the coding units.
      broadcast_shape: Axes between batch_shape and the model's prior_shape; all axes of a unit for a model
        with indexes, and for a PowerLaw model.
      payload: All bit strings, one after the other in row-major order of the batch.
      lengths: uint32 [units], the length of each in bytes.
      blocks: Checksums of runs of coding units.
      rate: Symbols and bytes of the `compress` call; None for a tensor that was loaded or sliced.
      indexes_crc32c: uint32 [units], checksums of the indexes that each unit was coded with, which must be
        decoded with the same; None for a model without indexes, or if they are not known.
      unit_numbers: int64 [units], the units' numbers in the array that was compressed, where decoding depends
        on them, as in a UniversalIndexedEntropyModel; else None.
    """

    @cached_property
    def strings(self) -> npt.NDArray[np.object_]:
        """The bit strings: a read-only object array of `bytes`, shaped like the batch."""
        ends = np.cumsum(self.lengths, dtype=np.int64).tolist()
        strings = np.empty(len(ends), np.object_)
        start = 0
        for unit, end in enumerate(ends):
            strings[unit] = self.payload[start:end]
            start = end
        strings = strings.reshape(self.batch_shape)
        strings.setflags(write=False)
        return strings

    def _repr_html_(self) -> str:
        rate = self.rate
        properties = {
            "model_id": self.model_id,
            "dtype": self.dtype,
            "batch_shape": self.batch_shape,
            "broadcast_shape": self.broadcast_shape,
            "coding units": f"{len(self.lengths):,}",
            "bytes": f"{len(self.payload):,}",
            "bits per symbol": None if rate is None else f"{rate.bits_per_symbol:.3f}",
        }
        return described(type(self).__name__, properties)

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a CompressedTensor of a single coding unit has no length")
        return self.batch_shape[0]

    def __getitem__(self, key: Any) -> CompressedTensor:
        """Selects coding units by integers and slices along the batch.

        Raises:
          CorruptStringError: If a selected unit lies in a block that does not match its checksum.
        """
        selected = np.arange(prod(self.batch_shape)).reshape(self.batch_shape)[key]
        units = np.atleast_1d(selected).reshape(-1)
        damaged = damaged_units(self.payload, self.lengths, self.blocks)[units]
        if damaged.any():
            bad = units[damaged].tolist()
            raise CorruptStringError(f"coding units {few(bad)} do not match their checksum", units=bad)
        strings = self.strings.reshape(-1)
        payload, lengths = b"".join(strings[units]), self.lengths[units]
        return CompressedTensor(
            self.model_id,
            self.tables_digest,
            self.dtype,
            np.shape(selected),
            self.broadcast_shape,
            payload,
            lengths,
            make_blocks(payload, lengths),
            indexes_crc32c=None if self.indexes_crc32c is None else self.indexes_crc32c[units],
            unit_numbers=None if self.unit_numbers is None else self.unit_numbers[units],
        )

    def to_message(self) -> types_pb2.CompressedTensor:
        """Renders the wire form."""
        return types_pb2.CompressedTensor(
            format_version=FORMAT_VERSION,
            model_id=self.model_id,
            tables_digest=self.tables_digest,
            dtype=dtype_number(self.dtype),
            batch_shape=self.batch_shape,
            broadcast_shape=self.broadcast_shape,
            payload=self.payload,
            lengths=self.lengths.tolist(),
            blocks=self.blocks,
            indexes_crc32c=None if self.indexes_crc32c is None else self.indexes_crc32c.tolist(),
            unit_numbers=number_messages(self.unit_numbers),
        )

    @classmethod
    def from_message(
        cls, message: types_pb2.CompressedTensor, rate: coding_pb2.RateReport | None = None
    ) -> Self:
        """Reads the wire form.

        Raises:
          InvalidRequestError: If it has another format version, or its fields contradict one another.
        """
        if message.format_version != FORMAT_VERSION:
            found = f"is {message.format_version}; this version of entropyd knows {FORMAT_VERSION}"
            raise InvalidRequestError.at("format_version", found)
        lengths = np.fromiter(message.lengths, np.uint32, len(message.lengths))
        payload = message.payload  # protobuf copies a field of bytes each time that it is read
        dtype = dtype_name(message.dtype)
        try:
            batch_shape = shape_from_message(message.batch_shape, "batch_shape")
            broadcast_shape = shape_from_message(message.broadcast_shape, "broadcast_shape")
        except InvalidTensorError as error:  # the shape is a field of the message here, not of a tensor
            raise InvalidRequestError.of(error.violations) from error
        consistent = (
            dtype in BOTTLENECK_DTYPES
            and len(lengths) == prod(batch_shape)
            and int(lengths.sum(dtype=np.uint64)) == len(payload)
            and (not message.blocks or sum(block.units for block in message.blocks) == len(lengths))
            and len(message.indexes_crc32c) in {0, len(lengths)}
        )
        if dtype is None or not consistent:
            found = "has lengths, payload, blocks, indexes_crc32c and batch_shape that do not fit together"
            raise InvalidRequestError.at("compressed", found)
        return cls(
            message.model_id,
            message.tables_digest,
            dtype,
            batch_shape,
            broadcast_shape,
            payload,
            lengths,
            tuple(message.blocks),
            None
            if rate is None
            else RateReport(
                rate.symbols, rate.escaped_symbols, rate.uncompressed_bytes, rate.compressed_bytes
            ),
            np.fromiter(message.indexes_crc32c, np.uint32, len(lengths)) if message.indexes_crc32c else None,
            _unit_numbers(message.unit_numbers, len(lengths)),
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        model: EmbeddedModel | None = None,
    ) -> None:
        """Writes an archive, which appears under its name when it is complete.

        Args:
          path: The file; an existing one is replaced. See ArchiveWriter.
          metadata: JSON values by name, to store with the data.
          model: A model to embed.

        Raises:
          CorruptStringError: If a block does not match its checksum.
        """
        with ArchiveWriter(path, metadata=metadata, model=model) as writer:
            writer.append(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompressedTensor:
        """Reads a whole archive; `Archive.open` reads parts of one.

        Raises:
          DataLossError: If it is not an archive, is cut short, or its header or index is damaged.
          CorruptStringError: If a block is damaged; `.units` names its coding units.
          InvalidRequestError: If a newer version of the format wrote it, or it has exact elements, which a
            CompressedTensor would lose.
        """
        with ArchiveReader.open(path) as archive:
            if exact := len(archive.exact()):
                found = f"has {exact} exact elements beside its bit strings; read it as an Archive"
                raise InvalidRequestError.at(archive.name, found)
            return archive.read_as(CompressedTensor)


def number_messages(numbers: npt.NDArray[np.int64] | None) -> list[types_pb2.UnitNumbers]:
    """Numbers of units for the wire; none for None."""
    runs = [] if numbers is None else runs_of(numbers).tolist()
    return [types_pb2.UnitNumbers(first=first, count=count) for first, count in runs]


def _unit_numbers(runs: Sequence[types_pb2.UnitNumbers], units: int) -> npt.NDArray[np.int64] | None:
    if not runs:
        return None
    counted = sum(run.count for run in runs)
    if counted != units:
        raise InvalidRequestError.at("unit_numbers", f"are {counted}; expected one for each of {units} units")
    if max(run.first + run.count for run in runs) > _LARGEST_NUMBER:
        raise InvalidRequestError.at("unit_numbers", "are above 2^63")
    return numbers_of([(run.first, run.count) for run in runs])


class MeasuredTensor(CompressedTensor):
    """A CompressedTensor with its `rate`, as `compress` returns it."""

    rate: RateReport
