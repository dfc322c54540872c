"""Requests and replies: what every client sends and how it reads the answer.

Owns the conversion between the public values and the messages of each call, for the blocking and the
asynchronous client alike. It must not know a channel. Invariant: what can be refused before sending is.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.archive import CompressedTensor
from entropyd.contract.arrays import array_of, bit_strings_of
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.errors import (
    CorruptStringError,
    InvalidRequestError,
    InvalidTensorError,
    LimitExceededError,
    Violation,
)
from entropyd.contract.kinds import config_from_message
from entropyd.contract.wire import array_from_message
from entropyd.v1 import coding_pb2, model_pb2, types_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from entropyd.contract.config import ModelConfig
    from entropyd.v1 import info_pb2

# A message above this is worth a look at the server's limits before it is sent.
UNCHECKED_BYTES = 1024 * 1024
_LARGEST_AXIS = 2**63 - 1
_ORIGINS: dict[int, str] = {
    model_pb2.TABLES_ORIGIN_BUILT: "built",
    model_pb2.TABLES_ORIGIN_SUPPLIED: "supplied",
    model_pb2.TABLES_ORIGIN_IMPORTED: "imported",
}


@dataclass(frozen=True)
class ModelInfo:
    """What the server says of a stored model.

    Attributes:
      id: Config hash.
      config: Configuration, every default filled in.
      tables_digest: SHA-256 of the coding tables, 32 bytes; empty without compression.
      table_rows: Rows of the coding tables.
      table_bytes: Bytes of the coding tables.
      built_with: Versions of the libraries that built the tables.
      created_at: When the model was stored.
      tables_origin: Where the coding tables came from: `built` from the prior by a server of the store,
        `supplied` with the configuration, or `imported`; "" without tables, or if that was not recorded.
    """

    id: str
    config: ModelConfig
    tables_digest: bytes
    table_rows: int
    table_bytes: int
    built_with: Mapping[str, str]
    created_at: datetime.datetime
    tables_origin: str = ""


@dataclass(frozen=True)
class ServerInfo:
    """What the server says of itself.

    Attributes:
      version: As in `0.1.0`.
      roles: `coding`, `modeling` or both.
      devices: Devices with a modeling worker.
      max_message_bytes: Largest message, and largest array that decoding may make.
      max_model_bytes: Largest coding tables of one model.
      max_units: Most coding units in one call.
      max_build_seconds: Longest time for building one model's tables.
      max_concurrent_calls: Most calls in hand at a time, of all callers.
      max_models_per_caller: Most models that one caller may make; 0 for any number.
    """

    version: str
    roles: tuple[str, ...]
    devices: tuple[str, ...]
    max_message_bytes: int
    max_model_bytes: int
    max_units: int
    max_build_seconds: float
    max_concurrent_calls: int
    max_models_per_caller: int


def server_info(reply: info_pb2.GetServerInfoResponse) -> ServerInfo:
    """Reads a GetServerInfo reply."""
    limits = reply.limits
    return ServerInfo(
        reply.version,
        tuple(reply.roles),
        tuple(reply.devices),
        limits.max_message_bytes,
        limits.max_model_bytes,
        limits.max_units,
        limits.max_build_seconds,
        limits.max_concurrent_calls,
        limits.max_models_per_caller,
    )


def model_info(message: model_pb2.Model) -> ModelInfo:
    """Reads a Model message."""
    return ModelInfo(
        message.model_id,
        config_from_message(message.config),
        message.tables_digest,
        message.table_rows,
        message.table_bytes,
        dict(message.built_with),
        message.create_time.ToDatetime(datetime.timezone.utc),
        _ORIGINS.get(message.tables_origin, ""),
    )


def bottleneck_array(model: ModelInfo, bottleneck: Any) -> npt.NDArray[Any]:
    """A bottleneck as an array of the model's bottleneck_dtype.

    Raises:
      InvalidTensorError: If it is neither an array of that dtype nor a list of numbers.
    """
    return array_of("bottleneck", bottleneck, model.config.bottleneck_dtype)


def check_finite(array: npt.NDArray[Any], field: str) -> None:
    """Refuses an array of floats that has NaN or infinities.

    Raises:
      InvalidTensorError: Naming the first such element.
    """
    finite = np.isfinite(array)
    if not finite.all():
        where = np.unravel_index(int(np.argmin(finite)), array.shape)
        found = f"is {'NaN' if np.isnan(array[where]) else array[where]}; expected finite numbers"
        raise InvalidTensorError.of([Violation(f"{field}{[int(axis) for axis in where]}", found)])


def decompress_request(
    model: ModelInfo, source: Any, broadcast_shape: Sequence[int] | None
) -> coding_pb2.DecompressRequest:
    """Renders a Decompress call, in either calling convention.

    Args:
      model: The model.
      source: A CompressedTensor; or bit strings as `bytes`, nested lists or an object array of them.
      broadcast_shape: Needed with bare strings, and only with them.

    Raises:
      InvalidRequestError: If the two do not go together, the tensor is another model's, or either is of
        another kind.
    """
    # Units that cannot be decoded come back beside the good ones, so that the error can hold both.
    request = coding_pb2.DecompressRequest(error_policy=coding_pb2.ERROR_POLICY_SKIP)
    if isinstance(source, CompressedTensor):
        if broadcast_shape is not None:
            raise _invalid("broadcast_shape", "is given, but a CompressedTensor has its own")
        if source.model_id != model.id:
            raise _invalid("compressed.model_id", f"is {source.model_id}; this model is {model.id}")
        request.compressed.CopyFrom(source.to_message())
        return request
    shape, strings = bit_strings_of("strings", source)
    if broadcast_shape is None:
        raise _invalid("broadcast_shape", "is missing; bare bit strings need it")
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


def restored_array(reply: coding_pb2.DecompressResponse) -> npt.NDArray[Any]:
    """Reads a Decompress reply.

    Raises:
      CorruptStringError: If units could not be decoded; `partial` has the others.
    """
    array = tensor_array(reply.tensor)
    if reply.unit_errors:
        raise corrupt(reply.unit_errors, array)
    return array


def tensor_array(tensor: types_pb2.Tensor) -> npt.NDArray[Any]:
    """Reads an array of a reply; read-only."""
    dtype, elements = array_from_message(tensor, "tensor")
    return elements.view(numpy_dtype(dtype)) if dtype == "bfloat16" else elements


def damaged_mask(
    model: ModelInfo, array: npt.NDArray[Any], units: Sequence[int] = ()
) -> npt.NDArray[np.bool_]:
    """True for the named coding units of a restored array, in the shape of its batch."""
    mask = np.zeros(array.shape[: array.ndim - model.config.coding_rank], np.bool_)
    mask.reshape(-1)[list(units)] = True
    return mask


def method_of(request: Any) -> str:
    """The method whose request a message is, as in `GetModel`."""
    return type(request).__name__.removesuffix("Request")


def check_size(message: Any, info: ServerInfo) -> None:
    """Refuses a message that the server would.

    Raises:
      LimitExceededError: If it is larger than the server's max_message_bytes.
    """
    check_bytes(message.ByteSize(), info)


def check_bytes(size: int, info: ServerInfo) -> None:
    """Refuses a message of so many bytes, as `check_size`."""
    if size > info.max_message_bytes:
        raise LimitExceededError(
            f"a message of {size} bytes exceeds the server's max_message_bytes of {info.max_message_bytes}",
            metadata={"limit": "max_message_bytes", "value": str(info.max_message_bytes)},
        )


def _axes(field: str, value: Any) -> list[int]:
    """Axis lengths, which are integers; NumPy's too."""
    try:
        axes = [index(axis) for axis in value]
    except TypeError:
        raise _invalid(field, f"is {value!r:.80}; expected a list of integers") from None
    if any(abs(axis) > _LARGEST_AXIS for axis in axes):  # more than a message can hold
        raise _invalid(field, f"is {value!r:.80}; expected axes of at most {_LARGEST_AXIS}")
    return axes


def corrupt(errors: Sequence[coding_pb2.UnitError], partial: npt.NDArray[Any]) -> CorruptStringError:
    """The error for units that could not be decoded, at least one; `partial` has NaN in their place."""
    units = [error.unit for error in errors]
    first = errors[0]
    cause = coding_pb2.UnitErrorCause.Name(first.cause).removeprefix("UNIT_ERROR_CAUSE_").lower()
    what = f"coding unit {units[0]} cannot be decoded: {cause} at element {first.element}"
    if len(units) > 1:
        what += f"; and {len(units) - 1} more"
    return CorruptStringError(what, units=units, partial=partial)


def _invalid(field: str, description: str) -> InvalidRequestError:
    return InvalidRequestError.of([Violation(field, description)])
