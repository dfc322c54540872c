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
from typing import TYPE_CHECKING, cast

from google.protobuf.message import DecodeError

from entropyd.contract.errors import InvalidRequestError, LimitExceededError, Violation
from entropyd_server.rpc.limits import MAX_FIELDS

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

# A message below this cannot hold enough fields to matter.
_COUNTED_BYTES = 1 << 20
_MOST_DEPTH = 100
# Wire types: https://protobuf.dev/programming-guides/encoding/
_VARINT, _DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


def read_message(message_type: type[Message], data: bytes) -> Message:
    """Parses a message.

    Raises:
      InvalidRequestError: If the bytes are no such message.
      LimitExceededError: If it has too many fields.
    """
    if len(data) > _COUNTED_BYTES and _count_fields(data, message_type) > MAX_FIELDS:
        raise LimitExceededError(
            f"the message has more than {MAX_FIELDS} fields",
            metadata={"limit": "max_fields", "value": str(MAX_FIELDS)},
        )
    try:
        return message_type.FromString(data)
    except DecodeError:
        what = f"is no {message_type.DESCRIPTOR.full_name}"
        raise InvalidRequestError.of([Violation("message", what)]) from None


def _count_fields(data: bytes, message_type: type[Message]) -> int:
    """Fields of a message, and of those within it that hold messages themselves; ends above MAX_FIELDS.

    Other messages within it have fields of numbers and bytes only, and these take memory in proportion.
    Where the bytes are no message it stops, as reading them will.
    """
    count = 0
    # Messages to look into: where their fields begin and end, of what type, how deep.
    messages = [(0, len(data), cast("Descriptor", message_type.DESCRIPTOR), 0)]
    while messages and count <= MAX_FIELDS:
        at, end, descriptor, depth = messages.pop()
        holders = _holders(descriptor) if depth < _MOST_DEPTH else {}
        while at < end and count <= MAX_FIELDS:
            count += 1
            tag, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at, end)
            wire_type = tag & 7
            if wire_type == _DELIMITED and at < end:
                length, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at, end)
                if length and tag >> 3 in holders:
                    messages.append((at, min(at + length, end), holders[tag >> 3], depth + 1))
                at += length
            elif wire_type == _VARINT:
                _, at = _varint(data, at, end)
            elif wire_type in _FIXED_BYTES:
                at += _FIXED_BYTES[wire_type]
            else:
                break
    return count


@lru_cache(maxsize=256)  # the types of our own requests, fewer than that
def _holders(descriptor: Descriptor) -> dict[int, Descriptor]:
    """Fields, by number, whose messages hold messages themselves."""
    inner = {field.number: field.message_type for field in descriptor.fields if field.message_type}
    return {
        number: message for number, message in inner.items() if any(f.message_type for f in message.fields)
    }


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends; past `end` where it does not."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, end
