"""CodingService: parse, code, render.

Owns the rendering of coded units as messages and of a unit's status as an error. It must not know how units
are coded or what a well-formed request is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.errors import CorruptStringError, InvalidTensorError, UnimplementedError, Violation
from entropyd.contract.integrity import make_blocks
from entropyd.contract.wire import dtype_number, tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc, types_pb2
from entropyd_server.kernels.range_coder import Status
from entropyd_server.rpc.requests import (
    FORMAT_VERSION,
    checked_model_id,
    decompress_source,
    parse_compress,
    parse_decompress,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from entropyd_server.coding.codec import Codec, DecodedUnits, EncodedUnits
    from entropyd_server.metrics import Metrics
    from entropyd_server.rpc.compute import CodecThreads
    from entropyd_server.rpc.library import ModelLibrary
    from entropyd_server.rpc.limits import Limits
    from entropyd_server.rpc.requests import CompressCall, DecompressCall

    Context = grpc.aio.ServicerContext[Any, Any]

_CAUSES = {
    Status.ESCAPE_TOO_LONG: coding_pb2.UNIT_ERROR_CAUSE_ESCAPE_TOO_LONG,
    Status.NOT_AT_END: coding_pb2.UNIT_ERROR_CAUSE_SANITY_CHECK,
}
# An error names this many units; trailing metadata hold no more than a few kilobytes.
_NAMED_UNITS = 100


class CodingService(coding_pb2_grpc.CodingServiceServicer):
    """Compresses and decompresses with the models of a library."""

    def __init__(
        self, library: ModelLibrary, threads: CodecThreads, limits: Limits, metrics: Metrics
    ) -> None:
        self._library = library
        self._threads = threads
        self._limits = limits
        self._compressing = metrics.coding("compress")
        self._escaped_symbols = metrics.escaped_symbols
        self._decompressing = metrics.coding("decompress")

    async def Compress(
        self, request: coding_pb2.CompressRequest, context: Context
    ) -> coding_pb2.CompressResponse:
        """See coding.proto."""
        codec = await self._library.codec(checked_model_id(request.model_id))
        call = parse_compress(request, codec, self._limits)
        encoded = await self._threads.run(call.values.size, partial(_encode, codec, call))
        self._compressing.count(call.values.size, call.values.nbytes, len(encoded.payload))
        self._escaped_symbols.inc(encoded.escaped_symbols)
        return _render_compressed(codec, call, encoded, len(request.bottleneck.data))

    async def Decompress(
        self, request: coding_pb2.DecompressRequest, context: Context
    ) -> coding_pb2.DecompressResponse:
        """See coding.proto."""
        codec = await self._library.codec(checked_model_id(decompress_source(request).model_id))
        call = parse_decompress(request, codec, self._limits)
        decoded = await self._threads.run(call.symbols, partial(_decode, codec, call))
        self._decompressing.count(call.symbols, decoded.values.nbytes, len(call.payload))
        return _render_decompressed(codec, call, decoded)

    async def CompressStream(
        self, requests: AsyncIterator[coding_pb2.CompressStreamRequest], context: Context
    ) -> AsyncIterator[coding_pb2.CompressStreamResponse]:
        """Not served yet."""
        raise UnimplementedError("CompressStream is not served by this version")
        yield  # makes this a generator, as gRPC expects of a streaming method

    async def DecompressStream(
        self, requests: AsyncIterator[coding_pb2.DecompressStreamRequest], context: Context
    ) -> AsyncIterator[coding_pb2.DecompressStreamResponse]:
        """Not served yet."""
        raise UnimplementedError("DecompressStream is not served by this version")
        yield  # makes this a generator, as gRPC expects of a streaming method


def _encode(codec: Codec, call: CompressCall) -> EncodedUnits:
    plan = codec.plan(call.broadcast_shape)
    encoded = codec.encode(call.values, plan)
    failed = np.flatnonzero(encoded.statuses)
    if not len(failed):
        return encoded
    violations = []
    for unit in failed[:_NAMED_UNITS].tolist():
        position = int(encoded.positions[unit])
        description = codec.error_at(
            plan,
            unit=unit,
            status=int(encoded.statuses[unit]),
            position=position,
            value=codec.value_at(call.values, unit, position),
        )
        violations.append(Violation("bottleneck", description))
    what = violations[0].description
    if len(failed) > 1:
        what += f"; {len(failed) - 1} more coding units cannot be coded"
    raise InvalidTensorError(what, violations=violations)


def _decode(codec: Codec, call: DecompressCall) -> DecodedUnits:
    plan = codec.plan(call.broadcast_shape)
    decoded = codec.decode(call.payload, call.lengths, plan)
    failed = np.flatnonzero(call.damaged | (decoded.statuses != Status.OK))
    if not len(failed) or call.skip_errors:
        return decoded
    units = call.units[failed[:_NAMED_UNITS]].tolist()
    violations = []
    for row, unit in zip(failed.tolist(), units, strict=False):
        if call.damaged[row]:
            description = f"coding unit {unit}: the checksum of its block does not match"
        else:
            description = codec.error_at(
                plan, unit=unit, status=int(decoded.statuses[row]), position=int(decoded.positions[row])
            )
        violations.append(Violation("strings", description))
    what = violations[0].description
    if len(failed) > 1:
        what += f"; {len(failed) - 1} more coding units cannot be decoded"
    raise CorruptStringError(what, units=units, violations=violations)


def _render_compressed(
    codec: Codec, call: CompressCall, encoded: EncodedUnits, uncompressed_bytes: int
) -> coding_pb2.CompressResponse:
    return coding_pb2.CompressResponse(
        compressed=types_pb2.CompressedTensor(
            format_version=FORMAT_VERSION,
            model_id=codec.model_id,
            tables_digest=codec.tables.digest,
            dtype=dtype_number(codec.bottleneck_dtype),
            batch_shape=call.batch_shape,
            broadcast_shape=call.broadcast_shape,
            payload=encoded.payload,
            lengths=encoded.lengths.tolist(),
            blocks=make_blocks(encoded.payload, encoded.lengths),
        ),
        rate=coding_pb2.RateReport(
            symbols=call.values.size,
            escaped_symbols=encoded.escaped_symbols,
            uncompressed_bytes=uncompressed_bytes,
            compressed_bytes=len(encoded.payload),
        ),
    )


def _render_decompressed(
    codec: Codec, call: DecompressCall, decoded: DecodedUnits
) -> coding_pb2.DecompressResponse:
    values = decoded.values
    failed = np.flatnonzero(call.damaged | (decoded.statuses != Status.OK))
    if call.damaged.any():
        values = values.copy()
        values[call.damaged] = 0x7FC0 if codec.bottleneck_dtype == "bfloat16" else np.nan
    shape = call.batch_shape + call.broadcast_shape + codec.prior_shape
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
    tensor = tensor_to_message(values.reshape(shape), codec.bottleneck_dtype)
    return coding_pb2.DecompressResponse(tensor=tensor, unit_errors=unit_errors)
