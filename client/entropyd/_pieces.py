"""Arrays larger than one message: cut on coding units, and put together again.

Owns where an array is cut and how answers become one result. It must not know a channel. Invariant: the
result is what one message would have given, wherever the cuts fall, and errors name coding units of the whole
array.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from entropyd import _calls
from entropyd.archive import MeasuredTensor, RateReport
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.errors import InvalidRequestError, Violation
from entropyd.contract.integrity import damaged_units, make_blocks
from entropyd.contract.wire import tensor_fields
from entropyd.v1 import coding_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from entropyd._calls import ModelInfo

# Arrays are cut into messages of about this many bytes: docs/adr/0006-batching.md has the measurement.
PIECE_BYTES = 1024 * 1024
# Pieces that are on their way at a time: enough to keep a few codec threads busy.
WINDOW = 8

_UNIT_ERROR_CHECKSUM = coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM


_Result_co = TypeVar("_Result_co", covariant=True)


class Work(Protocol[_Result_co]):
    """Something that takes several calls of one method."""

    method: ClassVar[str]
    model: ModelInfo
    units: int

    def requests(self) -> Iterator[tuple[Any, int]]:
        """Each call's request, and how many coding units it covers."""

    def add(self, reply: Any) -> None:
        """Takes the next reply, in the order of the requests."""

    def result(self) -> _Result_co:
        """What the replies make."""


@dataclass
class Compression:
    """An array on its way to the server, in pieces."""

    method: ClassVar[str] = "Compress"

    model: ModelInfo
    bottleneck: Any
    units: int = field(init=False)
    _replies: list[coding_pb2.CompressResponse] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._array = _calls.bottleneck_array(self.model, self.bottleneck)
        # An array of too small a rank goes to the server as it is, to be refused there.
        batch_axes = max(self._array.ndim - self.model.config.coding_rank, 0)
        self._batch_shape = self._array.shape[:batch_axes]
        self.units = prod(self._batch_shape)
        self._unit_bytes = self._array.nbytes // max(self.units, 1)

    def requests(self) -> Iterator[tuple[coding_pb2.CompressRequest, int]]:
        """Compress requests, one for an array of up to PIECE_BYTES."""
        step = max(PIECE_BYTES // max(self._unit_bytes, 1), 1)
        if self.units <= step:
            yield self._request(self._array), self.units
            return
        flat = self._array.reshape(self.units, *self._array.shape[len(self._batch_shape) :])
        for first in range(0, self.units, step):
            piece = flat[first : first + step]
            yield self._request(piece, first), len(piece)

    def _request(self, array: npt.NDArray[Any], first_unit: int = 0) -> coding_pb2.CompressRequest:
        return coding_pb2.CompressRequest(
            model_id=self.model.id, bottleneck=tensor_fields(array), first_unit=first_unit
        )

    def add(self, reply: coding_pb2.CompressResponse) -> None:
        """Takes the next reply."""
        self._replies.append(reply)

    def result(self) -> MeasuredTensor:
        """The compressed array."""
        pieces = [MeasuredTensor.from_message(reply.compressed, reply.rate) for reply in self._replies]
        if len(pieces) == 1:
            return pieces[0]
        rates = [piece.rate for piece in pieces]
        first = pieces[0]
        return MeasuredTensor(
            first.model_id,
            first.tables_digest,
            first.dtype,
            self._batch_shape,
            first.broadcast_shape,
            b"".join(piece.payload for piece in pieces),
            np.concatenate([piece.lengths for piece in pieces]),
            tuple(block for piece in pieces for block in piece.blocks),
            RateReport(
                sum(rate.symbols for rate in rates),
                sum(rate.escaped_symbols for rate in rates),
                sum(rate.uncompressed_bytes for rate in rates),
                sum(rate.compressed_bytes for rate in rates),
            ),
        )


@dataclass
class Decompression:
    """Bit strings on their way to the server, in pieces."""

    method: ClassVar[str] = "Decompress"

    model: ModelInfo
    source: Any
    broadcast_shape: Sequence[int] | None
    units: int = field(init=False)
    _replies: list[coding_pb2.DecompressResponse] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._whole = _calls.decompress_request(self.model, self.source, self.broadcast_shape)
        strings = self._strings = (
            self._whole.compressed
            if self._whole.WhichOneof("source") == "compressed"
            else self._whole.bit_strings
        )
        self.units = len(strings.lengths)
        symbols = prod(strings.broadcast_shape) * prod(self.model.config.prior_shape)
        unit_bytes = symbols * numpy_dtype(self.model.config.bottleneck_dtype).itemsize
        self._payload = strings.payload  # protobuf copies a field of bytes each time that it is read
        mean_bytes = len(self._payload) // max(self.units, 1)
        self._step = max(PIECE_BYTES // max(unit_bytes, mean_bytes, 1), 1)
        self._damaged: npt.NDArray[np.bool_] = np.zeros(self.units, np.bool_)

    def requests(self) -> Iterator[tuple[coding_pb2.DecompressRequest, int]]:
        """Decompress requests, one for an array of up to PIECE_BYTES."""
        if self.units <= self._step:
            yield self._whole, self.units
            return
        strings = self._strings
        lengths = np.fromiter(strings.lengths, np.uint32, self.units)
        if (total := int(lengths.sum(dtype=np.uint64))) != len(self._payload):
            found = f"has {len(self._payload)} bytes; lengths sum to {total}"
            raise InvalidRequestError.of([Violation("payload", found)])
        if isinstance(strings, type(self._whole.compressed)):
            # Cuts do not heed blocks, so whole blocks are checked here, and the pieces get their own.
            self._damaged = damaged_units(self._payload, lengths, strings.blocks)
        ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        for first in range(0, self.units, self._step):
            last = min(first + self._step, self.units)
            yield (
                self._piece(self._payload[int(ends[first]) : int(ends[last])], lengths[first:last]),
                last - first,
            )

    def _piece(self, payload: bytes, lengths: npt.NDArray[np.uint32]) -> coding_pb2.DecompressRequest:
        shared: dict[str, Any] = {
            "model_id": self.model.id,
            "batch_shape": [len(lengths)],
            "broadcast_shape": self._strings.broadcast_shape,
            "payload": payload,
            "lengths": lengths.tolist(),
        }
        policy = self._whole.error_policy
        if self._whole.WhichOneof("source") == "bit_strings":
            strings = types_pb2.BitStrings(**shared)
            return coding_pb2.DecompressRequest(bit_strings=strings, error_policy=policy)
        whole = self._whole.compressed
        compressed = types_pb2.CompressedTensor(
            format_version=whole.format_version,
            tables_digest=whole.tables_digest,
            dtype=whole.dtype,
            blocks=make_blocks(payload, lengths),
            **shared,
        )
        return coding_pb2.DecompressRequest(compressed=compressed, error_policy=policy)

    def add(self, reply: coding_pb2.DecompressResponse) -> None:
        """Takes the next reply."""
        self._replies.append(reply)

    def result(self) -> npt.NDArray[Any]:
        """The restored array.

        Raises:
          CorruptStringError: If units could not be decoded; `partial` has the others.
        """
        if len(self._replies) == 1:
            return _calls.restored_array(self._replies[0])
        pieces: list[npt.NDArray[Any]] = []
        errors: list[coding_pb2.UnitError] = []
        first = 0
        for reply in self._replies:
            piece = _calls.tensor_array(reply.tensor)
            for error in reply.unit_errors:
                error.unit += first
            errors += reply.unit_errors
            pieces.append(piece)
            first += len(piece)
        array: npt.NDArray[Any] = np.concatenate(pieces).reshape(
            *self._strings.batch_shape, *pieces[0].shape[1:]
        )
        if self._damaged.any():
            array.reshape(self.units, -1)[self._damaged] = np.nan
            named = {error.unit for error in errors}
            errors += [
                coding_pb2.UnitError(unit=unit, cause=_UNIT_ERROR_CHECKSUM)
                for unit in np.flatnonzero(self._damaged).tolist()
                if unit not in named
            ]
        if errors:
            raise _calls.corrupt(sorted(errors, key=lambda error: error.unit), array)
        array.setflags(write=False)
        return array


class Progress:
    """Tells a callback how many coding units are done.

    Args:
      callback: Called with the coding units that are done and all there are; None for nobody.
      units: All there are.
    """

    def __init__(self, callback: Callable[[int, int], None] | None, units: int) -> None:
        self._callback = callback
        self._units = units
        self._done = 0

    def add(self, units: int) -> None:
        """Counts units as done."""
        self._done += units
        if self._callback is not None:
            self._callback(self._done, self._units)
