"""Restores arrays by Decompress calls, from a CompressedTensor or from bare bit strings as in TFC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from operator import index
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from entropyd._arrays import check_first_unit, check_inputs, tensor_array
from entropyd._chunking import CHUNK_BYTES
from entropyd._indexes import row_plane
from entropyd._info import ModelInfo
from entropyd._location import check_fits, location_array, plus_location
from entropyd._symbols import Symbols
from entropyd.archive import CompressedTensor
from entropyd.archive.tensor import number_messages
from entropyd.archive.units import check_on_error, few
from entropyd.contract.arrays import bit_strings_of
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.errors import (
    CorruptStringError,
    EntropydError,
    IndexesMismatchError,
    InvalidRequestError,
    InvalidTensorError,
)
from entropyd.contract.integrity import damaged_units, make_blocks
from entropyd.contract.large_fields import LargeMessage
from entropyd.contract.symbols import SYMBOL_DTYPES
from entropyd.contract.wire import tensor_parts
from entropyd.v1 import coding_pb2, types_pb2

_LARGEST_AXIS = 2**63 - 1
# The path to the rows in a DecompressRequest.
_ROWS = coding_pb2.DecompressRequest.INDEXES_FIELD_NUMBER, types_pb2.Tensor.DATA_FIELD_NUMBER


@dataclass
class Decompression:
    """Restores an array from its bit strings, in chunks if it is large; see `_chunking.Work`.

    Attributes:
      source: A CompressedTensor; or bit strings as `bytes`, nested lists or an object array of them.
      broadcast_shape: Needed with bare bit strings of a model without indexes, and only with them.
      on_error: Whether coding units that cannot be decoded are an error or left out.
      indexes: Of a model that takes them, and of no other.
      loc: Of a model that takes it, or None.
      first_unit: Number of the first coding unit, in errors and for bare bit strings.
      symbols: What makes values of the symbols that are asked for; None, as at first, to ask for values.

    Raises:
      InvalidTensorError: If indexes or loc do not fit to the strings or to the model.
      InvalidRequestError: If source and broadcast_shape do not go together, the tensor is another model's,
        either is of another kind, or on_error is neither `raise` nor `skip`.
    """

    method: ClassVar[str] = "Decompress"

    model: ModelInfo
    source: Any
    broadcast_shape: Sequence[int] | None = None
    on_error: Literal["raise", "skip"] = "raise"
    indexes: Any = None
    loc: Any = None
    first_unit: int = 0
    symbols: Symbols | None = field(default=None, init=False)
    units: int = field(init=False)
    _responses: list[coding_pb2.DecompressResponse] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_first_unit(self.first_unit)
        check_on_error(self.on_error)
        config = self.model.config
        indexed = check_inputs(config, self.indexes, self.loc)
        self._rows = None if indexed is None else row_plane(indexed, self.indexes)
        shape = None if self._rows is None else self._rows.shape
        self._whole = decompress_request(self.model, self.source, self.broadcast_shape, shape)
        strings = self._strings = (
            self._whole.compressed
            if self._whole.WhichOneof("source") == "compressed"
            else self._whole.bit_strings
        )
        self.units = len(strings.lengths)
        self._numbers = self._unit_numbers() if config.numbers_units else None
        if not isinstance(self.source, CompressedTensor):
            strings.unit_numbers.extend(number_messages(self._numbers))
        self._unit_shape = (*strings.broadcast_shape, *config.unit_axes)
        self._location = None
        if self.loc is not None:
            self._location = location_array(self.loc)
            check_fits(self._location, (*strings.batch_shape, *self._unit_shape))
        unit_bytes = prod(self._unit_shape) * numpy_dtype(config.bottleneck_dtype).itemsize
        self._payload = strings.payload  # protobuf copies a field of bytes each time that it is read
        mean_bytes = len(self._payload) // max(self.units, 1)
        self._step = max(CHUNK_BYTES // max(unit_bytes, mean_bytes, 1), 1)
        self._damaged: npt.NDArray[np.bool_] = np.zeros(self.units, np.bool_)

    def _unit_numbers(self) -> npt.NDArray[np.int64]:
        if not isinstance(self.source, CompressedTensor):
            return self.first_unit + np.arange(self.units)
        numbers = self.source.unit_numbers
        return np.arange(self.units) if numbers is None else numbers

    @property
    def sent_symbols(self) -> bool:
        return self._whole.symbols

    def _numbers_of(self, first: int, stop: int) -> npt.NDArray[np.int64]:
        """int64 [stop - first], the numbers of some coding units."""
        return np.arange(first, stop) if self._numbers is None else self._numbers[first:stop]

    def requests(self) -> Iterator[tuple[bytes, int]]:
        """Serialised Decompress requests, one for an array of up to CHUNK_BYTES."""
        if self.symbols is not None:
            self._whole.symbols = self.symbols.cover(self._unit_shape, self._numbers_of(0, self.units))
        if self.units <= self._step:
            yield _serialised(self._whole, self._rows), self.units
            return
        lengths = np.fromiter(self._strings.lengths, np.uint32, self.units)
        if (total := int(lengths.sum(dtype=np.uint64))) != len(self._payload):
            found = f"has {len(self._payload)} bytes; lengths sum to {total}"
            raise InvalidRequestError.at("payload", found)
        if isinstance(self.source, CompressedTensor):
            # A chunk may end inside a block: blocks are checked here, and chunks get blocks of their own.
            self._damaged = damaged_units(self._payload, lengths, self.source.blocks)
        ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        rows = None if self._rows is None else self._rows.reshape(self.units, *self._unit_shape)
        for first in range(0, self.units, self._step):
            chunk = slice(first, min(first + self._step, self.units))
            payload = self._payload[int(ends[first]) : int(ends[chunk.stop])]
            request = coding_pb2.DecompressRequest(
                error_policy=self._whole.error_policy,
                symbols=self._whole.symbols,
                **self._chunk(chunk, payload, lengths[chunk]),
            )
            yield _serialised(request, None if rows is None else rows[chunk]), chunk.stop - first

    def _chunk(self, chunk: slice, payload: bytes, lengths: npt.NDArray[np.uint32]) -> dict[str, Any]:
        """The source of a request for some units."""
        shared: dict[str, Any] = {
            "model_id": self.model.id,
            "batch_shape": [len(lengths)],
            "broadcast_shape": self._strings.broadcast_shape,
            "payload": payload,
            "lengths": lengths.tolist(),
        }
        if self._numbers is not None:
            shared["unit_numbers"] = number_messages(self._numbers[chunk])
        if not isinstance(self.source, CompressedTensor):
            return {"bit_strings": types_pb2.BitStrings(**shared)}
        source, checksums = self.source, self.source.indexes_crc32c
        compressed = types_pb2.CompressedTensor(
            format_version=self._whole.compressed.format_version,
            tables_digest=source.tables_digest,
            dtype=self._whole.compressed.dtype,
            blocks=make_blocks(payload, lengths),
            indexes_crc32c=None if checksums is None else checksums[chunk].tolist(),
            **shared,
        )
        return {"compressed": compressed}

    def add(self, response: coding_pb2.DecompressResponse) -> None:
        self._responses.append(response)

    def result(self) -> Any:
        """The restored array, read-only; with `on_error="skip"` also a mask of the damaged coding units.

        Raises:
          IndexesMismatchError: If units were coded with other indexes; `partial` has what could be decoded.
            Not with `skip`.
          CorruptStringError: If units could not be decoded, and none were coded with other indexes; likewise.
        """
        array, errors = self._joined()
        located = array if self._location is None else plus_location(array, self._location)
        if self.on_error == "raise":
            if errors:
                raise _undecodable(errors, located, self.first_unit)
            return located
        mask = np.zeros(array.shape[: array.ndim - self.model.config.coding_rank], np.bool_)
        mask.reshape(-1)[[error.unit for error in errors]] = True
        return located, mask

    def _joined(self) -> tuple[npt.NDArray[Any], Sequence[coding_pb2.UnitError]]:
        """The array, with NaN in the coding units of the errors, which are in the order of their units."""
        if len(self._responses) == 1:
            response = self._responses[0]
            return self._values(response, 0), response.unit_errors
        errors: list[coding_pb2.UnitError] = []
        dtype = numpy_dtype(self.model.config.bottleneck_dtype)
        flat = np.empty((self.units, *self._unit_shape), dtype)
        first = 0
        for response in self._responses:
            chunk = self._values(response, first)
            flat[first : first + len(chunk)] = chunk
            for error in response.unit_errors:
                error.unit += first
            errors += response.unit_errors
            first += len(chunk)
        array: npt.NDArray[Any] = flat.reshape(*self._strings.batch_shape, *self._unit_shape)
        if self._damaged.any():
            array.reshape(self.units, -1)[self._damaged] = np.nan
            named = {error.unit for error in errors}
            cause = coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM
            damaged = np.flatnonzero(self._damaged).tolist()
            errors += [coding_pb2.UnitError(unit=unit, cause=cause) for unit in damaged if unit not in named]
        if not errors:
            array.setflags(write=False)
        return array, sorted(errors, key=lambda error: error.unit)

    def _values(self, response: coding_pb2.DecompressResponse, first: int) -> npt.NDArray[Any]:
        """The values of a response, whose coding units begin with the `first` one; read-only."""
        array = tensor_array(response.tensor)
        if self.symbols is None or array.dtype.name not in SYMBOL_DTYPES:
            return array
        symbols = prod(self._unit_shape)
        stop = first + (array.size // symbols if symbols else self.units)
        rows = None if self._rows is None else self._rows.reshape(self.units, symbols)[first:stop]
        quantizer = self.symbols.quantizer(self._unit_shape, self._numbers_of(first, stop), rows)
        values = quantizer.values(array.reshape(-1, symbols) if symbols else array.reshape(self.units, 0))
        if self.model.config.bottleneck_dtype == "bfloat16":
            values = values.view(numpy_dtype("bfloat16"))
        values[[error.unit for error in response.unit_errors]] = np.nan
        values = values.reshape(array.shape)
        values.setflags(write=False)
        return values


def decompress_request(
    model: ModelInfo,
    source: Any,
    broadcast_shape: Sequence[int] | None,
    elements: tuple[int, ...] | None = None,
) -> coding_pb2.DecompressRequest:
    """The Decompress request of one call, without indexes.

    Arguments and errors are those of Decompression; `elements` is the shape of the plane of rows, for a model
    with indexes.
    """
    # Units that cannot be decoded are returned beside the good ones, so that the error can have both.
    request = coding_pb2.DecompressRequest(error_policy=coding_pb2.ERROR_POLICY_SKIP)
    if isinstance(source, CompressedTensor):
        if broadcast_shape is not None:
            raise InvalidRequestError.at("broadcast_shape", "is given, but a CompressedTensor has its own")
        if source.model_id != model.id:
            found = f"is {source.model_id}; this model is {model.id}"
            raise InvalidRequestError.at("compressed.model_id", found)
        if elements is not None and elements != source.batch_shape + source.broadcast_shape:
            found = f"are those of elements of shape {elements}"
            expected = f"batch_shape {source.batch_shape} and broadcast_shape {source.broadcast_shape}"
            raise InvalidTensorError.at("indexes", f"{found}; the CompressedTensor has {expected}")
        request.compressed.CopyFrom(source.to_message())
        return request
    shape, strings = bit_strings_of("strings", source)
    if elements is not None:
        if broadcast_shape is not None:
            raise InvalidRequestError.at("broadcast_shape", "is given, but the indexes have the shape")
        batch_axes = len(elements) - model.config.coding_rank
        if elements[:batch_axes] != shape:
            found = f"are those of elements of shape {elements}, with batch shape {elements[:batch_axes]}"
            raise InvalidTensorError.at("indexes", f"{found}; the strings have shape {shape}")
        broadcast_shape = elements[batch_axes:]
    if broadcast_shape is None:
        raise InvalidRequestError.at("broadcast_shape", "is missing; bare bit strings need it")
    request.bit_strings.CopyFrom(
        types_pb2.BitStrings(
            model_id=model.id,
            batch_shape=shape,
            broadcast_shape=_axes("broadcast_shape", broadcast_shape),
            payload=b"".join(strings),
            lengths=[len(string) for string in strings],
        )
    )
    return request


def _serialised(request: coding_pb2.DecompressRequest, rows: npt.NDArray[Any] | None) -> bytes:
    """A request with its plane of rows, if there is one; their dtype and shape are set in `request`."""
    if rows is None:
        return request.SerializeToString()
    fields, elements = tensor_parts(rows)
    request.indexes.CopyFrom(types_pb2.Tensor(**fields))
    return LargeMessage(request, [(_ROWS, elements)]).SerializeToString()


def _axes(field: str, value: Any) -> list[int]:
    """Axis lengths: integers, NumPy's too."""
    try:
        axes = [index(axis) for axis in value]
    except TypeError:
        raise InvalidRequestError.at(field, f"is {value!r:.80}; expected a list of integers") from None
    if any(abs(axis) > _LARGEST_AXIS for axis in axes):  # more than a message can hold
        raise InvalidRequestError.at(field, f"is {value!r:.80}; expected axes of at most {_LARGEST_AXIS}")
    return axes


def _undecodable(
    errors: Sequence[coding_pb2.UnitError], partial: npt.NDArray[Any], first_unit: int
) -> EntropydError:
    """The error of coding units that cannot be decoded, at least one."""
    mismatched = coding_pb2.UNIT_ERROR_CAUSE_INDEXES
    other = [first_unit + error.unit for error in errors if error.cause == mismatched]
    bad = [first_unit + error.unit for error in errors if error.cause != mismatched]
    if other:
        units = f"coding units {few(other)} were" if len(other) > 1 else f"coding unit {other[0]} was"
        found = f"{units} coded with other indexes than those that are given"
        metadata = {}
        if bad:
            found += f"; coding unit{'s' if len(bad) > 1 else ''} {few(bad)} cannot be decoded at all"
            metadata["corrupt_units"] = ",".join(map(str, bad))
        return IndexesMismatchError(found, units=other, partial=partial, metadata=metadata)
    first = errors[0]
    cause = coding_pb2.UnitErrorCause.Name(first.cause).removeprefix("UNIT_ERROR_CAUSE_").lower()
    found = f"coding unit {bad[0]} cannot be decoded: {cause} at element {first.element}"
    if len(bad) > 1:
        found += f"; and {len(bad) - 1} more"
    return CorruptStringError(found, units=bad, partial=partial)
