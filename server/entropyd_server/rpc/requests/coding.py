"""Parsing of coding requests, once, at the edge.

Owns what a well-formed Compress or Decompress call is. It must not know how units are coded. Invariant: a
`CompressCall` or `DecompressCall` that exists fits its codec, and what it makes fits the limits, so nothing
behind it checks again.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import (
    InvalidRequestError,
    InvalidTensorError,
    LimitExceededError,
    TablesMismatchError,
    Violation,
)
from entropyd.contract.integrity import damaged_units
from entropyd.contract.wire import FORMAT_VERSION, array_from_message, dtype_name, shape_from_message
from entropyd.v1 import types_pb2
from entropyd_server.coding.operations import Strings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entropyd.v1 import coding_pb2
    from entropyd_server.coding.batched import BatchedCodec
    from entropyd_server.limits import Limits

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


# Tuples, as one is made for each call: see coding.codec.
class CompressCall(NamedTuple):
    """An array to compress.

    Attributes:
      values: [units, symbols], C-contiguous, in the codec's dtype.
      batch_shape: Its product is the number of units.
      broadcast_shape: The plan's.
      first_unit: Number by which errors know the first unit.
      bottleneck_bytes: Bytes of the array as it was sent.
    """

    values: npt.NDArray[Any]
    batch_shape: tuple[int, ...]
    broadcast_shape: tuple[int, ...]
    first_unit: int
    bottleneck_bytes: int


class DecompressCall(NamedTuple):
    """Bit strings to decode.

    Attributes:
      strings: The selected bit strings.
      unit_symbols: Symbols of each unit.
      units: int64 [units], the index of each in the whole batch.
      damaged: bool [units], whether the checksum of its block failed.
      batch_shape: Shape of the answer's batch.
      broadcast_shape: The plan's.
      skip_errors: Whether bad units are left out of the answer rather than failing it.
    """

    strings: Strings
    unit_symbols: int
    units: npt.NDArray[np.int64]
    damaged: npt.NDArray[np.bool_]
    batch_shape: tuple[int, ...]
    broadcast_shape: tuple[int, ...]
    skip_errors: bool


def parse_compress(request: coding_pb2.CompressRequest, codec: BatchedCodec, limits: Limits) -> CompressCall:
    """Checks an array against its codec.

    Raises:
      InvalidTensorError: If dtype, rank or shape do not fit; names the axis.
      LimitExceededError: If it has too many units, or too many symbols once axes of length 1 are repeated.
    """
    dtype, array = array_from_message(request.bottleneck, "bottleneck")
    if dtype != codec.bottleneck_dtype:
        raise _invalid_tensor("bottleneck.dtype", f"is {dtype}; the model's is {codec.bottleneck_dtype}")
    rank, prior_rank = codec.coding_rank, len(codec.prior_shape)
    if array.ndim < rank:
        raise _invalid_tensor(
            "bottleneck", f"has rank {array.ndim}; coding_rank {rank} needs at least {rank}"
        )
    batch_shape, coding_shape = array.shape[: array.ndim - rank], array.shape[array.ndim - rank :]
    broadcast_shape, innermost = coding_shape[: rank - prior_rank], coding_shape[rank - prior_rank :]
    for axis, (found, wanted) in enumerate(
        zip(innermost, codec.prior_shape, strict=True), array.ndim - prior_rank
    ):
        if found not in {1, wanted}:
            description = f"is {found}; expected {wanted} (or 1) for prior_shape {codec.prior_shape}"
            raise _invalid_tensor(f"bottleneck.shape[{axis}]", description)
    units, symbols = _checked_size(batch_shape, broadcast_shape, codec, limits)
    bottleneck_bytes = array.nbytes
    if innermost != codec.prior_shape:
        repeated = np.broadcast_to(array, batch_shape + broadcast_shape + codec.prior_shape)
        array = np.ascontiguousarray(repeated)
    values = array.reshape(units, symbols)
    return CompressCall(values, batch_shape, broadcast_shape, request.first_unit, bottleneck_bytes)


def parse_decompress(
    request: coding_pb2.DecompressRequest, codec: BatchedCodec, limits: Limits
) -> DecompressCall:
    """Checks bit strings against their codec and their own checksums.

    Raises:
      InvalidRequestError: If the fields contradict one another.
      TablesMismatchError: If the strings were made with other tables.
      LimitExceededError: If decoding would make too large an array.
    """
    source = decompress_source(request)
    if isinstance(source, types_pb2.CompressedTensor):
        _check_identity(source, codec)
    batch_shape = _checked_shape(source.batch_shape, "batch_shape")
    broadcast_shape = _checked_shape(source.broadcast_shape, "broadcast_shape")
    expected_rank = codec.coding_rank - len(codec.prior_shape)
    if len(broadcast_shape) != expected_rank:
        found = (
            f"has {len(broadcast_shape)} axes; expected {expected_rank}, "
            f"coding_rank {codec.coding_rank} less the {len(codec.prior_shape)} of prior_shape"
        )
        raise _invalid_request("broadcast_shape", found)
    lengths = np.fromiter(source.lengths, np.uint32, len(source.lengths))
    total = prod(batch_shape)
    if len(lengths) != total:
        raise _invalid_request(
            "lengths", f"has {len(lengths)} entries; batch_shape {batch_shape} needs {total}"
        )
    payload = source.payload  # protobuf copies a field of bytes each time that it is read
    if (payload_bytes := sum(lengths.tolist())) != len(payload):  # faster for few than NumPy's sum
        raise _invalid_request("payload", f"has {len(payload)} bytes; lengths sum to {payload_bytes}")
    damaged = _damaged(request, payload, lengths)
    units = np.arange(total)
    if request.units:
        units = _selected(request.units, total, limits)
        batch_shape = (len(units),)
    rank = len(batch_shape) + codec.coding_rank
    if rank > limits.max_rank:
        found = f"has {len(batch_shape)} axes; with coding_rank {codec.coding_rank} expected at most "
        raise _invalid_request("batch_shape", f"{found}{limits.max_rank - codec.coding_rank}")
    _, unit_symbols = _checked_size(batch_shape, broadcast_shape, codec, limits)
    if request.units:
        payload = _gather(payload, lengths, units, limits)
        lengths, damaged = lengths[units], damaged[units]
    return DecompressCall(
        Strings(payload, lengths),
        unit_symbols,
        units,
        damaged,
        batch_shape,
        broadcast_shape,
        _skip_errors(request.error_policy),
    )


def decompress_source(
    request: coding_pb2.DecompressRequest,
) -> types_pb2.CompressedTensor | types_pb2.BitStrings:
    """The bit strings of a request, in either of their forms.

    Raises:
      InvalidRequestError: If there are none.
    """
    source = request.WhichOneof("source")
    if source is None:
        raise _invalid_request("source", "is missing; expected compressed or bit_strings")
    return request.compressed if source == "compressed" else request.bit_strings


def _check_identity(compressed: types_pb2.CompressedTensor, codec: BatchedCodec) -> None:
    if compressed.format_version != FORMAT_VERSION:
        found = f"is {compressed.format_version}; this server knows {FORMAT_VERSION}"
        raise _invalid_request("compressed.format_version", found)
    if compressed.tables_digest != codec.tables.digest:
        raise TablesMismatchError(
            f"the strings were made with coding tables {compressed.tables_digest.hex()[:16]}..., but model "
            f"{codec.model_id[:16]}... has {codec.tables.digest.hex()[:16]}...; decoding would give garbage",
            metadata={"model_id": codec.model_id, "tables_digest": codec.tables.digest.hex()},
        )
    if dtype_name(compressed.dtype) != codec.bottleneck_dtype:
        found = f"is {dtype_name(compressed.dtype)}; the model's is {codec.bottleneck_dtype}"
        raise _invalid_request("compressed.dtype", found)


def _checked_shape(axes: Sequence[int], field: str) -> tuple[int, ...]:
    try:
        return shape_from_message(axes, field)
    except InvalidTensorError as error:  # here a shape belongs to the request, not to a tensor
        raise InvalidRequestError.of(error.violations) from error


def _checked_size(
    batch_shape: tuple[int, ...], broadcast_shape: tuple[int, ...], codec: BatchedCodec, limits: Limits
) -> tuple[int, int]:
    """Units, and symbols of each; refused by the size of the array before there is an array."""
    units, symbols = prod(batch_shape), prod(broadcast_shape) * prod(codec.prior_shape)
    if units > limits.max_units:
        raise _limit_exceeded("max_units", limits.max_units, f"{units} coding units")
    # An empty axis counts as 1: nothing is allocated for the others, but NumPy multiplies them all the same.
    elements = units * symbols or prod(
        axis or 1 for axis in (*batch_shape, *broadcast_shape, *codec.prior_shape)
    )
    array_bytes = elements * DTYPE_BYTES[codec.bottleneck_dtype]
    if array_bytes > limits.max_message_bytes:
        raise _limit_exceeded(
            "max_message_bytes", limits.max_message_bytes, f"an array of {array_bytes} bytes"
        )
    return units, symbols


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
        raise _invalid_request("compressed.blocks", found)
    return damaged_units(payload, lengths, blocks)


def _selected(ranges: Sequence[coding_pb2.UnitRange], total: int, limits: Limits) -> npt.NDArray[np.int64]:
    if len(ranges) > limits.max_units:
        raise _limit_exceeded("max_units", limits.max_units, f"{len(ranges)} ranges of coding units")
    for number, run in enumerate(ranges):
        if run.start + run.count > total:
            found = f"is [{run.start}, {run.start + run.count}); the batch has {total} coding units"
            raise _invalid_request(f"units[{number}]", found)
    count = sum(run.count for run in ranges)
    if count > limits.max_units:
        raise _limit_exceeded("max_units", limits.max_units, f"{count} selected coding units")
    return np.concatenate([np.arange(run.start, run.start + run.count) for run in ranges])


def _gather(
    payload: bytes, lengths: npt.NDArray[np.uint32], units: npt.NDArray[np.int64], limits: Limits
) -> bytes:
    """Joins the bit strings of `units`, whole runs at a time. A unit may be selected more than once."""
    gathered_bytes = int(lengths[units].sum(dtype=np.uint64))
    if gathered_bytes > limits.max_message_bytes:
        found = f"a selection of {gathered_bytes} bytes of bit strings"
        raise _limit_exceeded("max_message_bytes", limits.max_message_bytes, found)
    ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    cuts = [0, *(np.flatnonzero(np.diff(units) != 1) + 1).tolist(), len(units)]
    runs = [(int(units[a]), int(units[b - 1]) + 1) for a, b in pairwise(cuts) if b > a]
    return b"".join(payload[int(ends[first]) : int(ends[last])] for first, last in runs)


def _skip_errors(policy: int) -> bool:
    if policy not in {0, 1, 2}:
        raise _invalid_request(
            "error_policy", f"is {policy}; expected ERROR_POLICY_FAIL or ERROR_POLICY_SKIP"
        )
    return policy == 2


def _invalid_tensor(field: str, description: str) -> InvalidTensorError:
    return InvalidTensorError.of([Violation(field, description)])


def _invalid_request(field: str, description: str) -> InvalidRequestError:
    return InvalidRequestError.of([Violation(field, description)])


def _limit_exceeded(limit: str, value: int, found: str) -> LimitExceededError:
    return LimitExceededError(
        f"{found} exceeds the server's {limit} of {value}", metadata={"limit": limit, "value": str(value)}
    )
