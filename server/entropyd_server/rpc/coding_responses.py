"""Renders coded units as messages, and the units that failed as errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.dtypes import BFLOAT16_NAN
from entropyd.contract.errors import CorruptStringError, IndexesMismatchError, InvalidTensorError, Violation
from entropyd.contract.integrity import make_blocks
from entropyd.contract.large_fields import LargeMessage
from entropyd.contract.symbols import narrowest
from entropyd.contract.wire import FORMAT_VERSION, dtype_number, tensor_parts
from entropyd.v1 import coding_pb2, types_pb2
from entropyd_server.coding.codec import Codec, DecodedUnits, EncodedUnits, none_set
from entropyd_server.coding.rows import Rows
from entropyd_server.kernels.range_coder import Status
from entropyd_server.rpc.requests.coding import CompressCall, DecompressCall

# By `Status`. All but OK have one: a unit without a cause counts as good.
_CAUSE_OF_STATUS = np.full(len(Status), coding_pb2.UNIT_ERROR_CAUSE_SANITY_CHECK, np.uint8)
_CAUSE_OF_STATUS[Status.OK] = coding_pb2.UNIT_ERROR_CAUSE_UNSPECIFIED
for _status in (Status.ESCAPE_TOO_LONG, Status.GAMMA_TOO_LONG):
    _CAUSE_OF_STATUS[_status] = coding_pb2.UNIT_ERROR_CAUSE_ESCAPE_TOO_LONG
# Causes that no element has.
_BEFORE_DECODING = (coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM, coding_pb2.UNIT_ERROR_CAUSE_INDEXES)
# The path to the array in a DecompressResponse.
_VALUES = (coding_pb2.DecompressResponse.TENSOR_FIELD_NUMBER, types_pb2.Tensor.DATA_FIELD_NUMBER)
# Most units that an error names, because trailing metadata hold only a few kilobytes.
_NAMED_UNITS = 100
_NO_CAUSES = np.empty(0, np.uint8)


def failure_causes(
    call: DecompressCall, mismatched: npt.NDArray[np.bool_] | None, decoded: DecodedUnits
) -> npt.NDArray[np.uint8]:
    """Returns why units cannot be decoded.

    Args:
      call: The call.
      mismatched: bool [units], whether its indexes are others than it was coded with; None if all are known
        to be the same.
      decoded: What decoding gave.

    Returns:
      A UnitErrorCause for each unit, 0 for a good one; empty if all are good.
    """
    if decoded.all_ok and mismatched is None and none_set(call.damaged):
        return _NO_CAUSES
    causes = _CAUSE_OF_STATUS[decoded.statuses]
    causes[call.damaged] = coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM
    if mismatched is not None:
        causes[mismatched] = coding_pb2.UNIT_ERROR_CAUSE_INDEXES
    return causes


def corrupt_strings(
    codec: Codec, rows: Rows, call: DecompressCall, decoded: DecodedUnits, causes: npt.NDArray[np.uint8]
) -> CorruptStringError:
    """Makes the error for units that cannot be decoded, at least one, none of them for its indexes."""
    failed = np.flatnonzero(causes)
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


def other_indexes(call: DecompressCall, mismatched: npt.NDArray[np.bool_]) -> IndexesMismatchError:
    """Makes the error for units that were coded with other indexes, at least one."""
    failed = np.flatnonzero(mismatched)
    units = call.units[failed[:_NAMED_UNITS]].tolist()
    what = f"coding unit {units[0]} was coded with other indexes than the request's"
    if len(failed) > 1:
        what += f"; so were {len(failed) - 1} more"
    return IndexesMismatchError(f"{what}; decoding would give garbage", units=units)


def render_compressed(
    codec: Codec,
    rows: Rows,
    call: CompressCall,
    encoded: EncodedUnits,
    indexes_crc32c: npt.NDArray[np.uint32] | None,
) -> coding_pb2.CompressResponse:
    """Renders bit strings with their checksums, and those of their indexes if there are any.

    Raises:
      InvalidTensorError: If an element cannot be coded; names the units and the first such element of each.
    """
    if not encoded.all_ok:
        raise _not_coded(codec, rows, call, encoded)
    of_indexes: dict[str, Any] = {}
    if indexes_crc32c is not None:
        of_indexes["indexes_crc32c"] = indexes_crc32c.tolist()
        if codec.numbers_units and len(encoded.lengths):
            of_indexes["unit_numbers"] = [{"first": call.first_unit, "count": len(encoded.lengths)}]
    return coding_pb2.CompressResponse(
        # Dicts, because a message that is given a message copies it.
        compressed={
            "format_version": FORMAT_VERSION,
            "model_id": codec.model_id,
            "tables_digest": codec.tables_digest,
            "dtype": dtype_number(codec.bottleneck_dtype),
            "batch_shape": call.batch_shape,
            "broadcast_shape": call.broadcast_shape,
            "payload": encoded.payload,
            "lengths": encoded.lengths.tolist(),
            "blocks": make_blocks(encoded.payload, encoded.lengths),
            **of_indexes,
        },
        rate={
            "symbols": call.values.size,
            "escaped_symbols": encoded.escapes,
            "uncompressed_bytes": call.bottleneck_bytes,
            "compressed_bytes": len(encoded.payload),
        },
    )


def render_decompressed(
    codec: Codec, call: DecompressCall, decoded: DecodedUnits, causes: npt.NDArray[np.uint8]
) -> LargeMessage:
    """Renders values, with NaN for the units that have a cause; or symbols, with 0."""
    values, failed = decoded.values, np.flatnonzero(causes)
    dtype = codec.bottleneck_dtype
    if len(failed):
        # Kernels did so with those that they could not decode.
        values = values.copy()
        if call.symbols:
            values[failed] = 0
        else:
            values[failed] = BFLOAT16_NAN if dtype == "bfloat16" else np.nan
    if call.symbols:
        values = narrowest(values)
        dtype = values.dtype.name
    unit_errors = [
        coding_pb2.UnitError(
            unit=int(call.units[row]),
            cause=coding_pb2.UnitErrorCause.Name(causes[row]),
            element=0 if causes[row] in _BEFORE_DECODING else max(int(decoded.positions[row]), 0),
        )
        for row in failed.tolist()
    ]
    shape = call.batch_shape + call.broadcast_shape + codec.unit_axes
    tensor, elements = tensor_parts(values.reshape(shape), dtype)
    message = coding_pb2.DecompressResponse(tensor=tensor, unit_errors=unit_errors)
    return LargeMessage(message, [(_VALUES, elements)])


def render_stream_decompressed(
    *, request_id: str, status: coding_pb2.StreamStatus | None = None, response: LargeMessage | None = None
) -> coding_pb2.DecompressStreamResponse | LargeMessage:
    if response is None:
        return coding_pb2.DecompressStreamResponse(request_id=request_id, status=status)
    whole = coding_pb2.DecompressStreamResponse(request_id=request_id, response=response.message)
    values = [((whole.RESPONSE_FIELD_NUMBER, *path), value) for path, value in response.values]
    return LargeMessage(whole, values)


def _not_coded(codec: Codec, rows: Rows, call: CompressCall, encoded: EncodedUnits) -> InvalidTensorError:
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
