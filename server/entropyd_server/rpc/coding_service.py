"""CodingService: parse, code, render.

Owns the rendering of coded units as messages and of a unit's status as an error. It must not know how units
are coded or what a well-formed request is.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from entropyd.contract.dtypes import BFLOAT16_NAN
from entropyd.contract.errors import CODES, CorruptStringError, InvalidTensorError, Violation
from entropyd.contract.integrity import make_blocks
from entropyd.contract.wire import FORMAT_VERSION, dtype_number, tensor_parts
from entropyd.v1 import coding_pb2, coding_pb2_grpc, types_pb2
from entropyd_server.coding.codec import DecodedUnits, EncodedUnits, none_set
from entropyd_server.coding.operations import COMPRESS, DECOMPRESS, CompressWork, DecompressWork
from entropyd_server.errors import as_error
from entropyd_server.kernels.range_coder import Status
from entropyd_server.rpc.large_message import LargeMessage
from entropyd_server.rpc.requests.coding import (
    decompress_source,
    parse_compress,
    parse_decompress,
)
from entropyd_server.rpc.streams import answer_each

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import numpy.typing as npt

    from entropyd_server.batching.batcher import Batcher
    from entropyd_server.coding.batched import BatchedCodec
    from entropyd_server.coding.operations import Compress, Decompress
    from entropyd_server.coding.rows import Rows
    from entropyd_server.limits import Limits
    from entropyd_server.metrics import Metrics
    from entropyd_server.models.cache import ModelCache
    from entropyd_server.observe.call_log import CallLog
    from entropyd_server.rpc.requests.coding import CompressCall, DecompressCall
    from entropyd_server.transport.call import Call


_CAUSES = {
    Status.ESCAPE_TOO_LONG: coding_pb2.UNIT_ERROR_CAUSE_ESCAPE_TOO_LONG,
    Status.NOT_AT_END: coding_pb2.UNIT_ERROR_CAUSE_SANITY_CHECK,
}
# Where a DecompressResponse has its array.
_VALUES = (coding_pb2.DecompressResponse.TENSOR_FIELD_NUMBER, types_pb2.Tensor.DATA_FIELD_NUMBER)
# An error names this many units; trailing metadata hold no more than a few kilobytes.
_NAMED_UNITS = 100
_NO_ROWS = np.empty(0, np.intp)
# The rows of larger units are picked on a thread.
_INLINE_ROWS_SYMBOLS = 8192
# What a symbol is taken to weigh in the queue, so that a long string of few symbols counts too.
_SYMBOL_BYTES = 8


class CodingKey(NamedTuple):
    """What coding units of different callers must have in common to be coded together."""

    codec: BatchedCodec
    coding: Compress | Decompress

    @property
    def operation(self) -> str:
        """The name by which metrics know it."""
        return self.coding.name


class CodingService(coding_pb2_grpc.CodingServiceServicer):
    """Compresses and decompresses with the models of a library."""

    def __init__(
        self,
        library: ModelCache,
        batcher: Batcher[Any, Any],
        limits: Limits,
        metrics: Metrics,
        calls: CallLog,
    ) -> None:
        self._library = library
        self._batcher = batcher
        self._limits = limits
        self._metrics = metrics
        self._calls = calls
        metrics.stream_messages.update({(f"{kind}Stream", "OK"): 0 for kind in ("Compress", "Decompress")})

    async def Compress(
        self, request: coding_pb2.CompressRequest, context: Call
    ) -> coding_pb2.CompressResponse:
        """See coding.proto."""
        return await self._compress(request, context.time_remaining())

    async def Decompress(self, request: coding_pb2.DecompressRequest, context: Call) -> LargeMessage:
        """See coding.proto."""
        return await self._decompress(request, context.time_remaining())

    async def CompressStream(
        self, requests: AsyncIterator[coding_pb2.CompressStreamRequest], context: Call
    ) -> None:
        """See coding.proto."""
        response = coding_pb2.CompressStreamResponse
        await self._answer_each(requests, context, "CompressStream", self._compress, response)

    async def DecompressStream(
        self, requests: AsyncIterator[coding_pb2.DecompressStreamRequest], context: Call
    ) -> None:
        """See coding.proto."""
        response = _decompress_stream_response
        await self._answer_each(requests, context, "DecompressStream", self._decompress, response)

    async def _answer_each(
        self,
        requests: AsyncIterator[Any],
        context: Call,
        method: str,
        unary: Callable[[Any, float | None], Awaitable[Any]],
        response: Callable[..., Any],
    ) -> None:
        """Answers each message of a stream with `unary`; one that fails does not end the stream."""

        async def answer(message: Any) -> Any:
            request_id, started = message.request_id, time.perf_counter()
            try:
                answered = await unary(message.request, context.time_remaining())
            except Exception as raised:  # noqa: BLE001 - one bad message must not end the stream
                status = self._failed(method, context, raised, started)
                return response(request_id=request_id, status=status)
            self._metrics.stream_messages[method, "OK"] += 1
            return response(request_id=request_id, response=answered)

        await answer_each(requests, answer, context.write, self._limits.max_stream_inflight)

    async def _compress(
        self, request: coding_pb2.CompressRequest, timeout_s: float | None
    ) -> coding_pb2.CompressResponse:
        codec = await self._library.codec(request.model_id)
        call = parse_compress(request, codec, self._limits)
        rows = await self._rows(codec, call.broadcast_shape, call.values.shape[1])
        units, unit_symbols = call.values.shape
        work = CompressWork(codec, rows, call.values)
        pieces = await self._coded(CodingKey(codec, COMPRESS), work, units, unit_symbols, timeout_s)
        encoded = EncodedUnits.join(pieces)
        _check_encoded(codec, rows, call, encoded)
        response = _render_compressed(codec, call, encoded)
        self._metrics.escaped_symbols += response.rate.escaped_symbols
        self._count("compress", call.values, encoded.payload)
        if call.values.size:
            actual_bits = 8 * len(encoded.payload) / call.values.size
            self._metrics.excess_bits.observe(actual_bits - rows.modelled_bits)
        return response

    async def _decompress(
        self, request: coding_pb2.DecompressRequest, timeout_s: float | None
    ) -> LargeMessage:
        codec = await self._library.codec(decompress_source(request).model_id)
        call = parse_decompress(request, codec, self._limits)
        rows = await self._rows(codec, call.broadcast_shape, call.unit_symbols)
        units = len(call.units)
        unit_bytes = len(call.strings.payload) // max(units, 1)
        unit_cost = max(call.unit_symbols, unit_bytes // _SYMBOL_BYTES)
        work = DecompressWork(codec, rows, call.strings)
        pieces = await self._coded(CodingKey(codec, DECOMPRESS), work, units, unit_cost, timeout_s)
        decoded = DecodedUnits.join(pieces)
        failed = _failed_rows(call, decoded)
        self._metrics.undecodable_units += len(failed)
        if len(failed) and not call.skip_errors:
            raise _corrupt(codec, rows, call, decoded, failed)
        self._count("decompress", decoded.values, call.strings.payload)
        return _render_decompressed(codec, call, decoded, failed)

    def _failed(
        self, method: str, context: Call, raised: Exception, started: float
    ) -> coding_pb2.StreamStatus:
        """Takes note of a message of a stream that fails, and renders its error."""
        error = as_error(raised)
        self._metrics.stream_messages[method, error.code] += 1
        milliseconds = 1000 * (time.perf_counter() - started)
        sent = context.invocation_metadata()
        log_id = self._calls.failed(method, sent, error, raised, milliseconds)
        return coding_pb2.StreamStatus(
            code=CODES[error.code],
            reason=error.reason,
            message=error.message,
            metadata={**error.metadata, "request_id": log_id},
        )

    def _count(self, operation: str, values: npt.NDArray[Any], payload: bytes) -> None:
        figures = self._metrics.operations[operation]
        figures.symbols += values.size
        figures.uncompressed_bytes += values.nbytes
        figures.compressed_bytes += len(payload)

    async def _rows(self, codec: BatchedCodec, broadcast_shape: tuple[int, ...], unit_symbols: int) -> Rows:
        if codec.has_rows(broadcast_shape):
            return codec.rows(broadcast_shape)
        if unit_symbols <= _INLINE_ROWS_SYMBOLS:
            rows = codec.rows(broadcast_shape)
        else:
            rows = await asyncio.to_thread(codec.rows, broadcast_shape)
        self._library.recharge(codec)
        return rows

    async def _coded(
        self, key: CodingKey, work: Any, units: int, unit_cost: int, timeout_s: float | None
    ) -> list[Any]:
        if not units * unit_cost:
            return code(key, [(work, 0, units)])  # nothing to do, and no unit that could wait for it
        return await self._batcher.submit(key, work, units=units, unit_cost=unit_cost, timeout_s=timeout_s)


def code(key: CodingKey, parts: Sequence[tuple[Any, int, int]]) -> list[Any]:
    """Codes units [start, stop) of each part; the batcher's function."""
    return key.coding.run(parts)


def _check_encoded(codec: BatchedCodec, rows: Rows, call: CompressCall, encoded: EncodedUnits) -> None:
    if encoded.all_ok:
        return
    failed = np.flatnonzero(encoded.statuses)
    violations = []
    for unit in failed[:_NAMED_UNITS].tolist():
        position = int(encoded.positions[unit])
        description = codec.error_at(
            rows,
            unit=call.first_unit + unit,
            status=int(encoded.statuses[unit]),
            position=position,
            value=codec.value_at(call.values, unit, position),
        )
        violations.append(Violation("bottleneck", description))
    what = violations[0].description
    if len(failed) > 1:
        what += f"; {len(failed) - 1} more coding units cannot be coded"
    raise InvalidTensorError(what, violations=violations)


def _failed_rows(call: DecompressCall, decoded: DecodedUnits) -> npt.NDArray[np.intp]:
    """Which of the units of a call cannot be decoded."""
    if decoded.all_ok and none_set(call.damaged):
        return _NO_ROWS
    return np.flatnonzero(call.damaged | (decoded.statuses != Status.OK))


def _corrupt(
    codec: BatchedCodec,
    rows: Rows,
    call: DecompressCall,
    decoded: DecodedUnits,
    failed: npt.NDArray[np.intp],
) -> CorruptStringError:
    """The error that names the units that failed, at least one."""
    units = call.units[failed[:_NAMED_UNITS]].tolist()
    violations = []
    for row, unit in zip(failed.tolist(), units, strict=False):
        if call.damaged[row]:
            description = f"coding unit {unit}: the checksum of its block does not match"
        else:
            description = codec.error_at(
                rows, unit=unit, status=int(decoded.statuses[row]), position=int(decoded.positions[row])
            )
        violations.append(Violation("strings", description))
    what = violations[0].description
    if len(failed) > 1:
        what += f"; {len(failed) - 1} more coding units cannot be decoded"
    return CorruptStringError(what, units=units, violations=violations)


def _render_compressed(
    codec: BatchedCodec, call: CompressCall, encoded: EncodedUnits
) -> coding_pb2.CompressResponse:
    return coding_pb2.CompressResponse(
        # Fields, because a message that holds a message copies it.
        compressed={
            "format_version": FORMAT_VERSION,
            "model_id": codec.model_id,
            "tables_digest": codec.tables.digest,
            "dtype": dtype_number(codec.bottleneck_dtype),
            "batch_shape": call.batch_shape,
            "broadcast_shape": call.broadcast_shape,
            "payload": encoded.payload,
            "lengths": encoded.lengths.tolist(),
            "blocks": make_blocks(encoded.payload, encoded.lengths),
        },
        rate={
            "symbols": call.values.size,
            "escaped_symbols": encoded.escapes,
            "uncompressed_bytes": call.bottleneck_bytes,
            "compressed_bytes": len(encoded.payload),
        },
    )


def _render_decompressed(
    codec: BatchedCodec, call: DecompressCall, decoded: DecodedUnits, failed: npt.NDArray[np.intp]
) -> LargeMessage:
    values = decoded.values
    if len(failed) and call.damaged.any():
        values = values.copy()
        values[call.damaged] = BFLOAT16_NAN if codec.bottleneck_dtype == "bfloat16" else np.nan
    unit_errors = [
        coding_pb2.UnitError(unit=int(call.units[row]), cause=coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM)
        if call.damaged[row]
        else coding_pb2.UnitError(
            unit=int(call.units[row]),
            cause=_CAUSES[Status(int(decoded.statuses[row]))],
            element=max(int(decoded.positions[row]), 0),
        )
        for row in failed.tolist()
    ]
    shape = call.batch_shape + call.broadcast_shape + codec.prior_shape
    tensor, elements = tensor_parts(values.reshape(shape), codec.bottleneck_dtype)
    message = coding_pb2.DecompressResponse(tensor=tensor, unit_errors=unit_errors)
    return LargeMessage(message, _VALUES, elements)


def _decompress_stream_response(
    *, request_id: str, status: coding_pb2.StreamStatus | None = None, response: LargeMessage | None = None
) -> coding_pb2.DecompressStreamResponse | LargeMessage:
    if response is None:
        return coding_pb2.DecompressStreamResponse(request_id=request_id, status=status)
    whole = coding_pb2.DecompressStreamResponse(request_id=request_id, response=response.message)
    return LargeMessage(whole, (whole.RESPONSE_FIELD_NUMBER, *response.path), response.data)
