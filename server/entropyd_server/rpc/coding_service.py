"""CodingService: compresses arrays and decompresses bit strings; see coding.proto."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from math import isnan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import CODES
from entropyd.contract.indexes import indexes_crc32c, row_dtype
from entropyd.contract.large_fields import LargeMessage
from entropyd.v1 import coding_pb2 as pb
from entropyd.v1 import coding_pb2_grpc
from entropyd_server.batching.batcher import Batcher
from entropyd_server.coding.codec import Codec, DecodedUnits, EncodedUnits, none_set
from entropyd_server.coding.operations import (
    COMPRESS,
    DECOMPRESS,
    Compress,
    CompressWork,
    Decompress,
    DecompressWork,
)
from entropyd_server.coding.rows import Rows
from entropyd_server.errors import as_error
from entropyd_server.limits import Limits
from entropyd_server.metrics import Metrics
from entropyd_server.models.cache import ModelCache
from entropyd_server.observe.call_log import CallLog
from entropyd_server.rpc.coding_responses import (
    corrupt_strings,
    failure_causes,
    other_indexes,
    render_compressed,
    render_decompressed,
    render_stream_decompressed,
)
from entropyd_server.rpc.requests.coding import (
    DecompressCall,
    decompress_source,
    parse_compress,
    parse_decompress,
)
from entropyd_server.rpc.requests.indexes import UnitIndexes
from entropyd_server.rpc.streams import answer_each
from entropyd_server.transport.call import Call

# The rows of larger units are computed on a thread.
_INLINE_ROWS_SYMBOLS = 8192
# More runs of units are read on a thread.
_INLINE_RUNS = 4096
# More indexes are checked on a thread.
_INLINE_INDEXES = 1 << 19


class CodingKey(NamedTuple):
    """What coding units must have in common to share a batch."""

    codec: Codec
    operation: Compress | Decompress

    @property
    def kind(self) -> str:
        return self.codec.kind


class CodingService(coding_pb2_grpc.CodingServiceServicer):
    def __init__(
        self,
        models: ModelCache,
        batcher: Batcher[Any, Any],
        limits: Limits,
        metrics: Metrics,
        call_log: CallLog,
    ) -> None:
        self._models = models
        self._batcher = batcher
        self._limits = limits
        self._metrics = metrics
        self._call_log = call_log
        metrics.stream_messages.update({("CompressStream", "OK"): 0, ("DecompressStream", "OK"): 0})

    async def Compress(self, request: pb.CompressRequest, context: Call) -> pb.CompressResponse:
        return await self._compress(request, context.time_remaining())

    async def Decompress(self, request: pb.DecompressRequest, context: Call) -> LargeMessage:
        return await self._decompress(request, context.time_remaining())

    async def CompressStream(self, requests: AsyncIterator[pb.CompressStreamRequest], context: Call) -> None:
        response = pb.CompressStreamResponse
        await self._serve_stream(requests, context, "CompressStream", self._compress, response)

    async def DecompressStream(
        self, requests: AsyncIterator[pb.DecompressStreamRequest], context: Call
    ) -> None:
        response = render_stream_decompressed
        await self._serve_stream(requests, context, "DecompressStream", self._decompress, response)

    async def _serve_stream(
        self,
        requests: AsyncIterator[Any],
        context: Call,
        method: str,
        unary: Callable[[Any, float | None], Awaitable[Any]],
        response: Callable[..., Any],
    ) -> None:
        """Serves each message of a stream as a call of `unary`; one that fails does not end the stream."""

        async def answer(message: Any) -> Any:
            request_id, started = message.request_id, time.perf_counter()
            try:
                result = await unary(message.request, context.time_remaining())
            except Exception as raised:  # noqa: BLE001 - fails this message only
                status = self._failed(method, context, raised, started)
                return response(request_id=request_id, status=status)
            self._metrics.stream_messages[method, "OK"] += 1
            return response(request_id=request_id, response=result)

        await answer_each(requests, answer, context.write, self._limits.max_stream_inflight)

    async def _compress(self, request: pb.CompressRequest, timeout_s: float | None) -> pb.CompressResponse:
        codec = await self._models.codec(request.model_id)
        call = parse_compress(request, codec, self._limits)
        units, unit_symbols = call.values.shape
        if call.indexes is None:
            rows, checksums = await self._rows(codec, call.broadcast_shape, unit_symbols), None
        else:
            rows, checksums = await self._indexed_rows(call.indexes)
        work = CompressWork(codec, rows, call.values)
        parts = await self._coded(CodingKey(codec, COMPRESS), work, units, unit_symbols, timeout_s)
        encoded = EncodedUnits.join(parts)
        response = render_compressed(codec, rows, call, encoded, checksums)
        self._metrics.escaped_symbols += encoded.escapes
        self._count("compress", codec, call.values, encoded.payload)
        if call.values.size and not isnan(rows.modelled_bits):
            actual_bits = 8 * len(encoded.payload) / call.values.size
            self._metrics.excess_bits.observe(actual_bits - rows.modelled_bits)
        return response

    async def _decompress(self, request: pb.DecompressRequest, timeout_s: float | None) -> LargeMessage:
        source = decompress_source(request)
        codec = await self._models.codec(source.model_id)
        if len(request.units) + len(source.unit_numbers) <= _INLINE_RUNS:
            call = parse_decompress(request, codec, self._limits)
        else:
            call = await asyncio.to_thread(parse_decompress, request, codec, self._limits)
        mismatched = None
        if call.indexes is None:
            rows = await self._rows(codec, call.broadcast_shape, call.unit_symbols)
        else:
            rows, checksums = await self._indexed_rows(call.indexes)
            mismatched = self._mismatched(call, checksums)
        units, unit_cost = len(call.units), call.unit_cost
        work = DecompressWork(codec, rows, call.strings, call.symbols)
        parts = await self._coded(CodingKey(codec, DECOMPRESS), work, units, unit_cost, timeout_s)
        decoded = DecodedUnits.join(parts)
        causes = failure_causes(call, mismatched, decoded)
        if len(causes):
            self._metrics.undecodable_units += int(
                np.count_nonzero(causes[causes != pb.UNIT_ERROR_CAUSE_INDEXES])
            )
            if not call.skip_errors:
                raise corrupt_strings(codec, rows, call, decoded, causes)
        self._count("decompress", codec, decoded.values, call.strings.payload)
        return render_decompressed(codec, call, decoded, causes)

    def _mismatched(
        self, call: DecompressCall, checksums: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.bool_] | None:
        """Which units were coded with other indexes; None if none was. Raises unless errors are skipped."""
        if call.indexes_crc32c is None:
            return None
        mismatched: npt.NDArray[np.bool_] = call.indexes_crc32c != checksums
        if none_set(mismatched):
            return None
        self._metrics.mismatched_units += int(np.count_nonzero(mismatched))
        if not call.skip_errors:
            raise other_indexes(call, mismatched)
        return mismatched

    def _failed(self, method: str, context: Call, raised: Exception, started: float) -> pb.StreamStatus:
        error = as_error(raised)
        self._metrics.stream_messages[method, error.code] += 1
        milliseconds = 1000 * (time.perf_counter() - started)
        log_id = self._call_log.failed(method, context.invocation_metadata(), error, raised, milliseconds)
        return pb.StreamStatus(
            code=CODES[error.code],
            reason=error.reason,
            message=error.message,
            metadata={**error.metadata, "request_id": log_id},
        )

    def _count(self, operation: str, codec: Codec, values: npt.NDArray[Any], payload: bytes) -> None:
        self._metrics.kind_symbols[operation, codec.kind] += values.size
        metrics = self._metrics.operations[operation]
        metrics.symbols += values.size
        metrics.uncompressed_bytes += values.size * codec.wire_dtype.itemsize
        metrics.compressed_bytes += len(payload)

    async def _rows(self, codec: Any, broadcast_shape: tuple[int, ...], unit_symbols: int) -> Rows:
        cached: Rows | None = codec.cached_rows(broadcast_shape)
        if cached is not None:
            return cached
        inline = unit_symbols <= _INLINE_ROWS_SYMBOLS
        rows: Rows = (
            codec.rows(broadcast_shape) if inline else await asyncio.to_thread(codec.rows, broadcast_shape)
        )
        self._models.recharge(codec)
        return rows

    async def _indexed_rows(self, indexes: UnitIndexes) -> tuple[Rows, npt.NDArray[np.uint32]]:
        """The rows of a call that brings indexes, and their checksums: uint32 [units]."""
        held = indexes.codec.nbytes
        if indexes.plane.size <= _INLINE_INDEXES:
            made = _rows_and_checksums(indexes)
        else:
            made = await asyncio.to_thread(_rows_and_checksums, indexes)
        if indexes.codec.nbytes != held:
            self._models.recharge(indexes.codec)
        return made

    async def _coded(
        self, key: CodingKey, work: Any, units: int, unit_cost: int, timeout_s: float | None
    ) -> list[Any]:
        if not units * unit_cost:
            return key.operation.run([(work, 0, units)])  # empty: there is nothing to queue
        return await self._batcher.submit(key, work, units=units, unit_cost=unit_cost, timeout_s=timeout_s)


def _rows_and_checksums(indexes: UnitIndexes) -> tuple[Rows, npt.NDArray[np.uint32]]:
    codec, plane, unit_shape, unit_numbers = indexes
    rows = codec.rows_of(plane, unit_shape, unit_numbers)  # refuses what does not fit the narrower dtype
    checksums = indexes_crc32c(plane.astype(row_dtype(codec.index_rows), copy=False))
    rows.modelled_bits  # noqa: B018 - computed here, on the thread, and cached
    return rows, checksums
