"""Parses Compress and Decompress requests.

Invariant: a `CompressCall` or `DecompressCall` fits its codec and the limits, so nothing after it checks
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, TablesMismatchError
from entropyd.contract.integrity import damaged_units
from entropyd.contract.wire import FORMAT_VERSION, dtype_name, shape_from_message
from entropyd.v1 import coding_pb2, types_pb2
from entropyd_server.coding.codec import Codec
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.coding.operations import Strings
from entropyd_server.limits import Limits
from entropyd_server.rpc.requests.bottleneck import checked_size, parse_bottleneck
from entropyd_server.rpc.requests.indexes import (
    UnitIndexes,
    numbers_from,
    parse_indexes,
    parse_unit_numbers,
    refuse_indexes,
)
from entropyd_server.rpc.requests.selection import gather, selected_units

# Bytes of a bit string that count as one symbol in the queue.
_SYMBOL_BYTES = 8


# Named tuples, because each call makes one: see coding.codec.
class CompressCall(NamedTuple):
    """An array to compress.

    Attributes:
      values: [units, symbols], C-contiguous, in the codec's dtype; or symbols as int8, int16 or int32.
      batch_shape: Its product is the number of units.
      broadcast_shape: The dimensions between batch_shape and the codec's unit_axes.
      first_unit: Number of the first unit.
      bottleneck_bytes: Bytes of the array as it was sent, or as it would have been without symbols.
      indexes: The rows of the symbols; None for a model without indexes.
    """

    values: npt.NDArray[Any]
    batch_shape: tuple[int, ...]
    broadcast_shape: tuple[int, ...]
    first_unit: int
    bottleneck_bytes: int
    indexes: UnitIndexes | None


class DecompressCall(NamedTuple):
    """Bit strings to decode.

    Attributes:
      strings: The selected bit strings.
      unit_symbols: Symbols of each unit.
      units: int64 [units], the index of each in the whole batch.
      damaged: bool [units], whether the checksum of its block failed.
      batch_shape: Shape of the response's batch.
      broadcast_shape: The dimensions between batch_shape and the codec's unit_axes.
      skip_errors: Whether a bad unit becomes NaN in the response; otherwise it fails the call.
      symbols: Whether the response has symbols.
      indexes: The rows of the symbols; None for a model without indexes.
      indexes_crc32c: uint32 [units], the checksum of the rows with which each was coded; None if unknown.
    """

    strings: Strings
    unit_symbols: int
    units: npt.NDArray[np.int64]
    damaged: npt.NDArray[np.bool_]
    batch_shape: tuple[int, ...]
    broadcast_shape: tuple[int, ...]
    skip_errors: bool
    symbols: bool
    indexes: UnitIndexes | None
    indexes_crc32c: npt.NDArray[np.uint32] | None

    @property
    def unit_cost(self) -> int:
        """Symbols that a unit counts as in the queue; long strings of few symbols count by their bytes."""
        unit_bytes = len(self.strings.payload) // max(len(self.units), 1)
        return max(self.unit_symbols, unit_bytes // _SYMBOL_BYTES)


def parse_compress(request: coding_pb2.CompressRequest, codec: Codec, limits: Limits) -> CompressCall:
    """Checks an array against its codec.

    Raises:
      InvalidTensorError, LimitExceededError: As `parse_bottleneck`, and `parse_indexes`.
      InvalidRequestError: If first_unit is too large for the model's dither.
    """
    array, batch_shape, broadcast_shape, units, unit_symbols = parse_bottleneck(
        request.bottleneck, codec, limits, symbols=True
    )
    bottleneck_bytes = array.size * codec.wire_dtype.itemsize
    shape = batch_shape + broadcast_shape + codec.unit_axes
    if array.shape != shape:
        array = np.ascontiguousarray(np.broadcast_to(array, shape))
    values, first_unit = array.reshape(units, unit_symbols), request.first_unit
    indexes = None
    if isinstance(codec, IndexedCodec):
        indexes = parse_indexes(request, codec, shape, numbers_from(first_unit, units, unit_symbols))
    else:
        refuse_indexes(request)
    return CompressCall(values, batch_shape, broadcast_shape, first_unit, bottleneck_bytes, indexes)


def parse_decompress(request: coding_pb2.DecompressRequest, codec: Codec, limits: Limits) -> DecompressCall:
    """Checks bit strings against their codec and their checksums.

    Raises:
      InvalidRequestError: If the fields contradict one another.
      InvalidTensorError: As `parse_indexes`.
      TablesMismatchError: If the strings were made with other tables.
      LimitExceededError: If the decoded array would be too large.
    """
    source = decompress_source(request)
    if isinstance(source, types_pb2.CompressedTensor):
        _check_identity(source, codec)
    batch_shape = _checked_shape(source.batch_shape, "batch_shape")
    broadcast_shape = _checked_shape(source.broadcast_shape, "broadcast_shape")
    expected_rank = codec.coding_rank - len(codec.unit_axes)
    if len(broadcast_shape) != expected_rank:
        found = (
            f"has {len(broadcast_shape)} axes; expected {expected_rank}, "
            f"coding_rank {codec.coding_rank} less the {len(codec.unit_axes)} of prior_shape"
        )
        raise InvalidRequestError.at("broadcast_shape", found)
    lengths = np.fromiter(source.lengths, np.uint32, len(source.lengths))
    total = prod(batch_shape)
    if len(lengths) != total:
        raise InvalidRequestError.at(
            "lengths", f"has {len(lengths)} entries; batch_shape {batch_shape} needs {total}"
        )
    payload = source.payload  # protobuf copies a field of bytes at each access
    if (payload_bytes := sum(lengths.tolist())) != len(payload):  # for few, faster than NumPy's sum
        raise InvalidRequestError.at("payload", f"has {len(payload)} bytes; lengths sum to {payload_bytes}")
    damaged = _damaged(request, payload, lengths)
    units = np.arange(total)
    if request.units:
        units = selected_units(request.units, total, limits)
        batch_shape = (len(units),)
    rank = len(batch_shape) + codec.coding_rank
    if rank > limits.max_rank:
        found = f"has {len(batch_shape)} axes; with coding_rank {codec.coding_rank} expected at most "
        raise InvalidRequestError.at("batch_shape", f"{found}{limits.max_rank - codec.coding_rank}")
    _, unit_symbols = checked_size(batch_shape, broadcast_shape, codec, limits)
    numbers = units
    if source.unit_numbers or isinstance(codec, IndexedCodec):
        numbers = parse_unit_numbers(source.unit_numbers, total, unit_symbols)[units]
    indexes_crc32c = _indexes_crc32c(request, codec, total)
    indexes = None
    if isinstance(codec, IndexedCodec):
        indexes = parse_indexes(request, codec, batch_shape + broadcast_shape, numbers)
    else:
        refuse_indexes(request)
    if request.units:
        payload = gather(payload, lengths, units, limits)
        lengths, damaged = lengths[units], damaged[units]
        indexes_crc32c = None if indexes_crc32c is None else indexes_crc32c[units]
    return DecompressCall(
        Strings(payload, lengths),
        unit_symbols,
        units,
        damaged,
        batch_shape,
        broadcast_shape,
        _skip_errors(request.error_policy),
        request.symbols,
        indexes,
        indexes_crc32c,
    )


def decompress_source(
    request: coding_pb2.DecompressRequest,
) -> types_pb2.CompressedTensor | types_pb2.BitStrings:
    """Returns the bit strings of a request, in either of their forms.

    Raises:
      InvalidRequestError: If there are none.
    """
    source = request.WhichOneof("source")
    if source is None:
        raise InvalidRequestError.at("source", "is missing; expected compressed or bit_strings")
    return request.compressed if source == "compressed" else request.bit_strings


def _check_identity(compressed: types_pb2.CompressedTensor, codec: Codec) -> None:
    if compressed.format_version != FORMAT_VERSION:
        found = f"is {compressed.format_version}; this server knows {FORMAT_VERSION}"
        raise InvalidRequestError.at("compressed.format_version", found)
    if compressed.tables_digest != codec.tables_digest:
        raise TablesMismatchError(
            f"the strings were made with coding tables {_digits(compressed.tables_digest)}, but model "
            f"{codec.model_id[:16]}... has {_digits(codec.tables_digest)}; decoding would give garbage",
            metadata={"model_id": codec.model_id, "tables_digest": codec.tables_digest.hex()},
        )
    if dtype_name(compressed.dtype) != codec.bottleneck_dtype:
        found = f"is {dtype_name(compressed.dtype)}; the model's is {codec.bottleneck_dtype}"
        raise InvalidRequestError.at("compressed.dtype", found)


def _digits(digest: bytes) -> str:
    return f"{digest.hex()[:16]}..." if digest else "none"


def _checked_shape(axes: Sequence[int], field: str) -> tuple[int, ...]:
    try:
        return shape_from_message(axes, field)
    except InvalidTensorError as error:  # a shape of the request, not of a tensor
        raise InvalidRequestError.of(error.violations) from error


def _damaged(
    request: coding_pb2.DecompressRequest, payload: bytes, lengths: npt.NDArray[np.uint32]
) -> npt.NDArray[np.bool_]:
    blocks = request.compressed.blocks
    if not blocks:
        return np.zeros(len(lengths), np.bool_)
    units = [block.units for block in blocks]
    covered = sum(units)
    if covered != len(lengths) or 0 in units:
        found = f"cover {covered} coding units; expected each of {len(lengths)} once, at least 1 a block"
        raise InvalidRequestError.at("compressed.blocks", found)
    return damaged_units(payload, lengths, blocks)


def _indexes_crc32c(
    request: coding_pb2.DecompressRequest, codec: Codec, total: int
) -> npt.NDArray[np.uint32] | None:
    checksums = request.compressed.indexes_crc32c
    if not checksums:
        return None
    if codec.index_rows is None or len(checksums) != total:
        expected = "none" if codec.index_rows is None else f"one for each of {total} coding units, or none"
        found = f"has {len(checksums)} entries; expected {expected}"
        raise InvalidRequestError.at("compressed.indexes_crc32c", found)
    return np.fromiter(checksums, np.uint32, total)


def _skip_errors(policy: int) -> bool:
    if policy not in {0, 1, 2}:
        raise InvalidRequestError.at(
            "error_policy", f"is {policy}; expected ERROR_POLICY_FAIL or ERROR_POLICY_SKIP"
        )
    return policy == 2
