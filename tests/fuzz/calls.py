"""Hostile calls of every method of a server, and the responses that each may get.

Messages are mutated from good ones, drawn from the descriptors, or are random bytes. `judge` accepts a
message of the right type, an error of the catalog that is no defect, or one that gRPC itself gives.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from entropyd.contract.errors import CATALOG, CODES, DOMAIN
from entropyd.contract.kinds import config_to_message
from entropyd.contract.kinds.indexed import IndexedConfig
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, info_pb2, model_pb2, types_pb2

if TYPE_CHECKING:
    import random

    from google.protobuf.message import Message

    import entropyd
    from entropyd.contract.config import ModelConfig

CALL_SECONDS = 60.0
# The last one is the health service's, which entropyd's clients do not call.
_REASONS = {reason for error in CATALOG for reason in error.reasons} - {"INTERNAL"} | {"SERVICE_UNKNOWN"}
# What gRPC answers by itself: a message above the limit, no such method.
_TRANSPORT = {
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.CANCELLED,
}
_EDGES = (0, 1, -1, 2, 127, 128, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.5, 1e-310, 1e38, float("inf"), float("-inf"), float("nan"))


@dataclass(frozen=True)
class Method:
    """One method of the server.

    Attributes:
      path: As on the wire.
      request, response: Types of its messages.
      streaming: Whether the caller sends a stream.
      answers: Whether the server does.
    """

    path: str
    request: type[Message]
    response: type[Message]
    streaming: bool
    answers: bool


@dataclass(frozen=True)
class Call:
    """What is sent: bytes that may be messages."""

    method: Method
    messages: list[bytes]


def methods() -> list[Method]:
    """Every method that a server with both roles has."""
    files: Any = (coding_pb2, info_pb2, model_pb2, health_pb2, reflection_pb2)
    return [
        Method(
            f"/{service.full_name}/{method.name}",
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
        )
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def seeds(
    model: entropyd.ModelInfo, compressed: entropyd.CompressedTensor, exported: bytes
) -> dict[str, list[bytes]]:
    """Good messages by path. Of several, the last is the one to make others of, and may follow on the first.

    Args:
      model: A model of the server, of float32.
      compressed: What the model compressed.
      exported: The model as an object.
    """
    x = np.random.default_rng(0).normal(0, 2, (3, 4, *model.config.prior_shape)).astype(np.float32)
    compress = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))
    bits = types_pb2.BitStrings(
        model_id=model.id, batch_shape=[3], broadcast_shape=[4], payload=b"\x81\x12\x77" * 3, lengths=[3] * 3
    )
    units = [coding_pb2.UnitRange(start=1, count=2)]
    decompress = coding_pb2.DecompressRequest(bit_strings=bits, units=units)
    whole = coding_pb2.DecompressRequest(compressed=compressed.to_message())
    fit = model_pb2.FitConfiguration(config=config_to_message(model.config), max_steps=2)
    by_id = b"\x0a\x40" + model.id.encode()
    perturb = model_pb2.PerturbRequest(model_id=model.id, bottleneck=tensor_to_message(x))
    create = model_pb2.CreateModelRequest(config=config_to_message(model.config))
    weights = model_pb2.SetWeightsRequest(model_id=model.id, weights=[tensor_to_message(x)])
    found: dict[str, list[Message]] = {
        "Compress": [compress],
        "CompressStream": [coding_pb2.CompressStreamRequest(request_id="1", request=compress)],
        "Decompress": [decompress, whole],
        "DecompressStream": [
            coding_pb2.DecompressStreamRequest(request_id="1", request=request)
            for request in (decompress, whole)
        ],
        "CreateModel": [create],
        "Perturb": [perturb],
        "SetWeights": [weights],
        # Few samples, so that none of it is fitted in earnest.
        "FitModel": [
            model_pb2.FitModelRequest(configuration=fit),
            model_pb2.FitModelRequest(samples=tensor_to_message(x)),
        ],
        "ImportModel": [model_pb2.ImportModelRequest(object=exported)],
        "ServerReflectionInfo": [reflection_pb2.ServerReflectionRequest(list_services="")],
        # Not the model's own: it is still needed.
        "DeleteModel": [model_pb2.DeleteModelRequest(model_id="0" * 64)],
        "SetModelName": [
            model_pb2.SetModelNameRequest(name="fuzzed", model_id=model.id, expected_model_id=model.id)
        ],
        "DeleteModelName": [model_pb2.DeleteModelNameRequest(name="fuzzed", expected_model_id=model.id)],
        "ResolveModelName": [model_pb2.ResolveModelNameRequest(name="fuzzed")],
        "ListModelNames": [model_pb2.ListModelNamesRequest(page_size=1, page_token="x")],  # noqa: S106 - a name
        "Check": [health_pb2.HealthCheckRequest(service="entropyd.liveness")],
    }
    return {
        method.path: [message.SerializeToString() for message in found.get(_name(method), [])] or [by_id]
        for method in methods()
    }


def unit_seeds(
    config: ModelConfig, compress: coding_pb2.CompressRequest, compressed: types_pb2.CompressedTensor
) -> dict[str, list[bytes]]:
    """Good messages by path, as those of `seeds`, of a model that fixes no axis of its units.

    Args:
      config: A model of the server, of float32, with one index range if any.
      compress: A request for it.
      compressed: What that gives.
    """
    bits = types_pb2.BitStrings(
        model_id=config.model_id,
        batch_shape=compressed.batch_shape,
        broadcast_shape=compressed.broadcast_shape,
        payload=compressed.payload,
        lengths=compressed.lengths,
        unit_numbers=[types_pb2.UnitNumbers(first=3, count=len(compressed.lengths))],
    )
    indexes = compress.indexes if compress.HasField("indexes") else None
    decompress = coding_pb2.DecompressRequest(bit_strings=bits, indexes=indexes)
    whole = coding_pb2.DecompressRequest(compressed=compressed, indexes=indexes)
    perturb = model_pb2.PerturbRequest(
        model_id=config.model_id, bottleneck=compress.bottleneck, indexes=indexes
    )
    if isinstance(config, IndexedConfig) and config.channel_axis is not None:
        perturb.indexes.shape.append(1)
    found: dict[str, list[Message]] = {
        "Compress": [compress],
        "CompressStream": [coding_pb2.CompressStreamRequest(request_id="1", request=compress)],
        "Decompress": [decompress, whole],
        "DecompressStream": [
            coding_pb2.DecompressStreamRequest(request_id="1", request=request)
            for request in (decompress, whole)
        ],
        "CreateModel": [model_pb2.CreateModelRequest(config=config_to_message(config))],
        "Perturb": [perturb],
    }
    paths = {_name(method): method.path for method in methods()}
    return {
        paths[name]: [message.SerializeToString() for message in messages] for name, messages in found.items()
    }


def draw(chance: random.Random, method: Method, good: list[bytes], model_id: str) -> Call:
    """A call of a method, hostile in one of many ways."""
    count = chance.choice([0, 1, 1, 2, 5]) if method.streaming else 1
    messages = [_message(chance, method.request, good[-1], model_id) for _ in range(count)]
    if len(good) > 1 and chance.random() < 0.5:
        messages = (
            [good[0], *messages]
            if method.streaming
            else [_message(chance, method.request, good[0], model_id)]
        )
    return Call(method, messages)


async def judge(channel: grpc.aio.Channel, call: Call) -> str:
    """Makes a call.

    Returns:
      How it ended: OK, or the reason or code of the error.

    Raises:
      AssertionError: If the answer is not one that a caller may get.
    """
    method = call.method
    kind = f"{'stream' if method.streaming else 'unary'}_{'stream' if method.answers else 'unary'}"
    request: Any = _each(call.messages) if method.streaming else call.messages[0]
    sent = getattr(channel, kind)(method.path)(request, timeout=CALL_SECONDS)
    try:
        if not method.answers:
            method.response.FromString(await sent)
            return "OK"
        async for answer in sent:
            _check_answer(method.response.FromString(answer))
            if _name(method) == "Watch":  # it would go on for ever
                sent.cancel()
                return "OK"
    except grpc.aio.AioRpcError as error:
        if "SendMessageOperation" in (error.debug_error_string() or ""):
            return "ENDED"  # grpc.aio's own failure to write to a stream that the server has ended
        return _checked(error.code(), error.details() or "", error.trailing_metadata() or ())
    return "OK"


async def _each(messages: list[bytes]) -> Any:
    for message in messages:
        yield message
        await asyncio.sleep(0)


def _check_answer(answer: Any) -> None:
    """A stream tells errors of its messages within answers."""
    streamed = isinstance(answer, (coding_pb2.CompressStreamResponse, coding_pb2.DecompressStreamResponse))
    if streamed and answer.HasField("status"):
        assert answer.status.reason in _REASONS, answer
        assert answer.status.code in CODES.values()
        _check_text(answer.status.message)


def _checked(code: grpc.StatusCode, text: str, trailing: Any) -> str:
    _check_text(text)
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            assert info.domain == DOMAIN
            assert info.reason in _REASONS, (code, text)
            return str(info.reason)
    assert code in _TRANSPORT, (code, text)
    return code.name


def _check_text(text: str) -> None:
    for secret in ("Traceback", "Unexpected <", ".py", "site-packages"):
        assert secret not in text, text


def _name(method: Method) -> str:
    return method.path.rpartition("/")[2]


def _message(chance: random.Random, message_type: type[Message], good: bytes, model_id: str) -> bytes:
    kind = chance.randrange(8)
    if kind > 5:
        return _with_other_indexes(chance, message_type, good)
    if kind == 0:
        return chance.randbytes(chance.randrange(64))
    if kind == 1:
        return _drawn(chance, message_type, model_id).SerializeToString()
    data = bytearray(good)
    if kind == 2:
        return bytes(data[: chance.randrange(len(data) + 1)])
    if kind == 3:  # the fields twice: repeated ones join, the last of the others counts
        return bytes(data) + _drawn(chance, message_type, model_id).SerializeToString()
    for _ in range(chance.choice([1, 1, 3, 10])):
        if data:
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(2)] = chance.randbytes(chance.randrange(3))
    return bytes(data)


def _with_other_indexes(chance: random.Random, message_type: type[Message], good: bytes) -> bytes:
    """A good message with another plane of indexes, other numbers of units or other checksums.

    Without a place for them, the message as it is.
    """
    message: Any = message_type.FromString(good)
    inner = message.request if "request" in message_type.DESCRIPTOR.fields_by_name else message
    if "indexes" not in inner.DESCRIPTOR.fields_by_name:
        return good
    plane = inner.indexes
    size = len(plane.data)
    match chance.randrange(7):
        case 0:
            plane.dtype = chance.randrange(9)
        case 1:
            plane.shape.insert(0, chance.choice(_EDGES))
        case 2:
            plane.data = plane.data[: chance.randrange(size + 1)]
        case 3:  # any value of a dtype that holds more than the model has rows
            plane.dtype, width = chance.choice([(types_pb2.D_TYPE_UINT16, 2), (types_pb2.D_TYPE_INT32, 4)])
            plane.data = chance.randbytes(width * size)
        case 4:
            plane.data = bytes(value ^ (chance.random() < 1 / max(size, 1)) for value in plane.data)
        case 5:
            inner.ClearField("indexes")
        case _:
            first, count = abs(chance.choice(_EDGES)), abs(chance.choice([*_EDGES, 3, 3, 3]))
            if "first_unit" in inner.DESCRIPTOR.fields_by_name:
                inner.first_unit = first
            else:
                source: Any = getattr(inner, inner.WhichOneof("source") or "bit_strings")
                del source.unit_numbers[:]
                source.unit_numbers.add(first=first, count=count)
                inner.compressed.indexes_crc32c.append(first & 0xFFFFFFFF)
    return bytes(message.SerializeToString())


def _drawn(chance: random.Random, message_type: type[Message], model_id: str, depth: int = 0) -> Message:
    """A message with any values in some of its fields."""
    message: Any = message_type()
    fields: Any = message_type.DESCRIPTOR.fields
    for field in fields:
        if chance.random() < 0.5 or (depth > 4 and field.message_type):
            continue
        entry = field.message_type is not None and field.message_type.GetOptions().map_entry
        for _ in range(chance.choice([1, 1, 3]) if field.label == FieldDescriptor.LABEL_REPEATED else 1):
            if field.name == "model_id" and "Delete" not in message_type.__name__:
                message.model_id = chance.choice([model_id, model_id, model_id[:-1], "g" * 64])
            elif entry:
                continue  # random bytes reach what is in maps
            elif field.message_type is not None:
                inner = _drawn(
                    chance, message_factory.GetMessageClass(field.message_type), model_id, depth + 1
                )
                if field.label == FieldDescriptor.LABEL_REPEATED:
                    getattr(message, field.name).append(inner)
                else:
                    getattr(message, field.name).CopyFrom(inner)
            elif field.label == FieldDescriptor.LABEL_REPEATED:
                getattr(message, field.name).append(_value(chance, field))
            else:
                setattr(message, field.name, _value(chance, field))
    return message  # type: ignore[no-any-return]


def _value(chance: random.Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
        return chance.choice(_FLOATS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice([0, 1, 2, 3, 5, 6, 7, 99])
    if kind == FieldDescriptor.CPPTYPE_STRING:
        data = chance.randbytes(chance.randrange(80))
        return data if field.type == FieldDescriptor.TYPE_BYTES else data.hex()[: chance.choice([0, 7, 64])]
    bits = 32 if kind in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32} else 64
    signed = kind in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return min(max(chance.choice([*_EDGES, chance.randrange(20)]), low), high)
