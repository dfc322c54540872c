"""Parses and serialises protobuf messages.

Invariant: parsing takes memory in proportion to the bytes received.

An empty message inside a message is two bytes on the wire and about eighty in memory, so 64 MiB of them would
take gigabytes. No valid request has that many: in large messages, the fields are counted before they are
parsed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from entropyd.contract.errors import InvalidRequestError
from entropyd.contract.large_fields import DELIMITED, ViewedMessage, fields, take_out_large
from entropyd.v1 import coding_pb2
from entropyd_server.errors import limit_exceeded
from entropyd_server.limits import MAX_FIELDS

# A smaller message cannot hold enough fields to matter.
_COUNTED_BYTES = 1 << 20
_MOST_DEPTH = 100
# The paths to the arrays in the requests that have large ones, largest first.
_ARRAYS = (("bottleneck", "data"), ("indexes", "data"))
_LARGE_FIELDS: dict[type[Message], tuple[tuple[str, ...], ...]] = {
    coding_pb2.CompressRequest: _ARRAYS,
    coding_pb2.CompressStreamRequest: tuple(("request", *names) for names in _ARRAYS),
}


def read_message(message_type: type[Message], data: bytes) -> Any:
    """Parses a message; a request with large arrays becomes a `ViewedMessage`.

    Raises:
      InvalidRequestError: If the bytes are no such message.
      LimitExceededError: If it has too many fields.
      MemoryError: If there is not enough memory for it.
    """
    paths = _LARGE_FIELDS.get(message_type, ())
    data, values = take_out_large(data, message_type, paths)
    if len(data) > _COUNTED_BYTES and _count_fields(data, message_type) > MAX_FIELDS:
        raise limit_exceeded("the fields of the message exceed", "max_fields", MAX_FIELDS)
    try:
        message = message_type.FromString(data)
    except DecodeError:
        # Protobuf raises DecodeError also for lack of memory; then this raises MemoryError.
        bytes(2 * len(data))
        what = f"is no {message_type.DESCRIPTOR.full_name}"
        raise InvalidRequestError.at("message", what) from None
    return ViewedMessage(message, values) if values else message


def write_message(message: Message) -> bytes:
    """Serialises a message; raises MemoryError if there is not enough memory for it."""
    try:
        return message.SerializeToString()
    except EncodeError as error:  # proto3 leaves no other cause
        raise MemoryError from error


def _count_fields(data: bytes, message_type: type[Message]) -> int:
    """Counts the fields of a message and of inner messages that hold messages; stops above MAX_FIELDS.

    Inner messages of numbers and bytes alone take memory in proportion, so they are not counted. Stops too at
    bytes that are no message.
    """
    count = 0
    # Messages to look into: where their fields begin and end, their type and depth.
    messages = [(0, len(data), cast("Descriptor", message_type.DESCRIPTOR), 0)]
    while messages:
        start, stop, descriptor, depth = messages.pop()
        holders = _holders(descriptor) if depth < _MOST_DEPTH else {}
        for number, wire_type, _, at, end in fields(data, start, stop):
            count += 1
            if count > MAX_FIELDS:
                return count
            if wire_type == DELIMITED and end > at and number in holders:
                messages.append((at, min(end, stop), holders[number], depth + 1))
    return count


@lru_cache(maxsize=256)  # more than our requests have types
def _holders(descriptor: Descriptor) -> dict[int, Descriptor]:
    """Types of the fields, by number, whose messages hold messages themselves."""
    inner = {field.number: field.message_type for field in descriptor.fields if field.message_type}
    return {
        number: message for number, message in inner.items() if any(f.message_type for f in message.fields)
    }
