"""Where the fields of a serialised message are.

Owns protobuf's wire format, as far as it takes to step over fields. It must not know what messages mean.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

DELIMITED = 2
_VARINT = 0
_FIXED_BYTES = {1: 8, 5: 4}
# More than a message has that anyone takes a field out of.
_FEW_FIELDS = 32


class Field(NamedTuple):
    """One field: where it begins, and where its value does, and ends, perhaps behind the end of the bytes."""

    number: int
    wire_type: int
    begin: int
    at: int
    end: int


def fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of the message in [at, end).

    Stops where the bytes are no field, or one of a kind that proto3 does not have: the last one ends before
    `end` then.
    """
    while at < end:
        begin = at
        tag, at = (data[at], at + 1) if data[at] < 0x80 else _read_varint(data, at, end)
        wire_type = tag & 7
        if wire_type == DELIMITED and at < end:
            length, at = (data[at], at + 1) if data[at] < 0x80 else _read_varint(data, at, end)
            after = at + length
        elif wire_type == _VARINT:
            _, after = _read_varint(data, at, end)
        elif wire_type in _FIXED_BYTES:
            after = at + _FIXED_BYTES[wire_type]
        else:
            return
        yield Field(tag >> 3, wire_type, begin, at, after)
        at = after


def without(data: bytes, path: tuple[int, ...]) -> tuple[bytes, memoryview] | None:
    """Takes a field of bytes out of a message.

    Args:
      data: The message.
      path: Numbers of the fields that lead to it: messages, and last the field of bytes.

    Returns:
      The message without the field, and what was in it; None where one of them is not there exactly once,
      among few others, or the bytes are no message.
    """
    way: list[tuple[int, Field, int]] = []
    start, stop = 0, len(data)
    for number in path:
        there = list(islice(fields(data, start, stop), _FEW_FIELDS))
        found = [field for field in there if field.number == number]
        if len(found) != 1 or found[0].wire_type != DELIMITED or there[-1].end != stop:
            return None
        (field,) = found
        way.append((start, field, stop))
        start, stop = field.at, field.end
    start, field, stop = way.pop()
    rest = data[start : field.begin] + data[field.end : stop]
    value = memoryview(data)[field.at : field.end]
    for start, field, stop in reversed(way):
        rest = data[start : field.begin] + header(field.number, len(rest)) + rest + data[field.end : stop]
    return rest, value


def header(number: int, size: int) -> bytes:
    """What stands before the value of a delimited field of `size` bytes."""
    return _varint(number << 3 | DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends; past `end` where it does not."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, end + 1
