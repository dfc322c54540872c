"""Renders coded units as messages, and the units that failed as errors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from entropyd.contract.dtypes import BFLOAT16_NAN
from entropyd.contract.errors import CorruptStringError, InvalidTensorError, Violation
from entropyd.contract.integrity import make_blocks
from entropyd.contract.wire import FORMAT_VERSION, dtype_number, tensor_parts
from entropyd.v1 import coding_pb2, types_pb2
from entropyd_server.coding.batched import BatchedCodec
from entropyd_server.coding.codec import DecodedUnits, EncodedUnits, none_set
from entropyd_server.coding.rows import Rows
from entropyd_server.kernels.range_coder import Status
from entropyd_server.rpc.large_fields import LargeMessage
from entropyd_server.rpc.requests.coding import CompressCall, DecompressCall

_CAUSES = {
    Status.ESCAPE_TOO_LONG: coding_pb2.UNIT_ERROR_CAUSE_ESCAPE_TOO_LONG,
    Status.NOT_AT_END: coding_pb2.UNIT_ERROR_CAUSE_SANITY_CHECK,
}
# The path to the array in a DecompressResponse.
_VALUES = (coding_pb2.DecompressResponse.TENSOR_FIELD_NUMBER, types_pb2.Tensor.DATA_FIELD_NUMBER)
# Most units that an error names, because trailing metadata hold only a few kilobytes.
_NAMED_UNITS = 100
_NO_ROWS = np.empty(0, np.intp)


def failed_rows(call: DecompressCall, decoded: DecodedUnits) -> npt.NDArray[np.intp]:
    """Returns the rows of the units that cannot be decoded, in order."""
    if decoded.all_ok and none_set(call.damaged):
        return _NO_ROWS
    return np.flatnonzero(call.damaged | (decoded.statuses != Status.OK))


def corrupt_strings(
    codec: BatchedCodec, rows: Rows, call: DecompressCall, decoded: DecodedUnits, failed: npt.NDArray[np.intp]
) -> CorruptStringError:
    """Makes the error for units that cannot be decoded, at least one."""
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


def render_compressed(
    codec: BatchedCodec, rows: Rows, call: CompressCall, encoded: EncodedUnits
) -> coding_pb2.CompressResponse:
    """Renders bit strings with their checksums.

    Raises:
      InvalidTensorError: If an element cannot be coded; names the units and the first such element of each.
    """
    if not encoded.all_ok:
        raise _not_coded(codec, rows, call, encoded)
    return coding_pb2.CompressResponse(
        # Dicts, because a message that is given a message copies it.
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


def render_decompressed(
    codec: BatchedCodec, call: DecompressCall, decoded: DecodedUnits, failed: npt.NDArray[np.intp]
) -> LargeMessage:
    """Renders values, with NaN for the units in the rows `failed`."""
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


def render_stream_decompressed(
    *, request_id: str, status: coding_pb2.StreamStatus | None = None, response: LargeMessage | None = None
) -> coding_pb2.DecompressStreamResponse | LargeMessage:
    if response is None:
        return coding_pb2.DecompressStreamResponse(request_id=request_id, status=status)
    whole = coding_pb2.DecompressStreamResponse(request_id=request_id, response=response.message)
    return LargeMessage(whole, (whole.RESPONSE_FIELD_NUMBER, *response.path), response.data)


def _not_coded(
    codec: BatchedCodec, rows: Rows, call: CompressCall, encoded: EncodedUnits
) -> InvalidTensorError:
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
    return InvalidTensorError(what, violations=violations)
