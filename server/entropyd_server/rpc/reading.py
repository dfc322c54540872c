"""Reading of protobuf messages that a stranger wrote.

Owns what a message may be before anything in it is looked at. It must not know what messages mean. Invariant:
reading takes memory in proportion to the bytes that were sent, and bytes that are no message are an
InvalidRequestError, never a traceback.

An empty message within a message takes two bytes on the wire and about forty times as many once it is read,
so 64 MiB of them would take gigabytes. That many are no request of ours: they are counted on the wire first,
where a message is large enough for it to matter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import DecodeError, EncodeError

from entropyd.contract.errors import InvalidRequestError, LimitExceededError, Violation
from entropyd.v1 import coding_pb2
from entropyd_server.limits import MAX_FIELDS
from entropyd_server.rpc.large_message import LargeRequest
from entropyd_server.rpc.wire_fields import DELIMITED, fields, without

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

# A message below this cannot hold enough fields to matter.
_COUNTED_BYTES = 1 << 20
_MOST_DEPTH = 100
# Protobuf copies a field of bytes when it is parsed and each time that it is read; looking for it in Python
# costs about as much as copying this.
_LARGE_BYTES = 1 << 17
# The requests whose array is worth it, and where they have it.
_LARGE_FIELDS = {
    coding_pb2.CompressRequest: ("bottleneck", "data"),
    coding_pb2.CompressStreamRequest: ("request", "bottleneck", "data"),
}


def read_message(message_type: type[Message], data: bytes) -> Any:
    """Parses a message; see `LargeRequest` for one whose array is large.

    Raises:
      InvalidRequestError: If the bytes are no such message.
      LimitExceededError: If it has too many fields.
      MemoryError: If there is not enough memory for it.
    """
    names = _LARGE_FIELDS.get(message_type, ()) if len(data) > _LARGE_BYTES else ()
    large = without(data, _numbers(message_type.DESCRIPTOR, names)) if names else None
    if large is not None:
        data, value = large
    if len(data) > _COUNTED_BYTES and _count_fields(data, message_type) > MAX_FIELDS:
        raise LimitExceededError(
            f"the message has more than {MAX_FIELDS} fields",
            metadata={"limit": "max_fields", "value": str(MAX_FIELDS)},
        )
    try:
        message = message_type.FromString(data)
    except DecodeError:
        bytes(
            2 * len(data)
        )  # raises MemoryError where memory is what is missing, which protobuf does not tell
        what = f"is no {message_type.DESCRIPTOR.full_name}"
        raise InvalidRequestError.of([Violation("message", what)]) from None
    return message if large is None else LargeRequest(message, names, value)


def write_message(message: Message) -> bytes:
    """Serialises a message.

    Raises:
      MemoryError: If there is not enough memory for it.
    """
    try:
        return message.SerializeToString()
    except EncodeError as error:  # proto3 leaves no other cause
        raise MemoryError from error


def _count_fields(data: bytes, message_type: type[Message]) -> int:
    """Fields of a message, and of those within it that hold messages themselves; ends above MAX_FIELDS.

    Other messages within it have fields of numbers and bytes only, and these take memory in proportion.
    Where the bytes are no message it stops, as reading them will.
    """
    count = 0
    # Messages to look into: where their fields begin and end, of what type, how deep.
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


@lru_cache(maxsize=256)  # the types of our own requests, fewer than that
def _holders(descriptor: Descriptor) -> dict[int, Descriptor]:
    """Fields, by number, whose messages hold messages themselves."""
    inner = {field.number: field.message_type for field in descriptor.fields if field.message_type}
    return {
        number: message for number, message in inner.items() if any(f.message_type for f in message.fields)
    }


@lru_cache
def _numbers(descriptor: Descriptor, names: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of the fields that lead to one, each in the message of the one before."""
    if not names:
        return ()
    field = descriptor.fields_by_name[names[0]]
    return (field.number, *_numbers(field.message_type, names[1:]))
