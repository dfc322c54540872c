"""Messages with large fields of bytes, read and written without protobuf's copies of it.

Invariant: a message written in this way is read as the whole message would be, and one read in this way has
the same values.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy.typing as npt

# The wire type of strings, bytes and messages: a length and as many bytes.
DELIMITED = 2
_VARINT = 0
_FIXED_BYTES = {1: 8, 5: 4}
# Messages with more fields than this are left to protobuf.
_MOST_FIELDS = 32


class LargeMessage(NamedTuple):
    """A message to serialise, and its large field.

    It relies on protobuf's merging: a field that holds a message may occur again
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins).

    Attributes:
      message: The protobuf message without the field.
      path: Numbers of the fields that lead to it: messages, and last the field of bytes.
      data: C-contiguous array of its bytes.
    """

    message: Any
    path: tuple[int, ...]
    data: npt.NDArray[Any]

    def SerializeToString(self) -> bytes:
        """Serialises the whole message; copies `data` once."""
        head, size = b"", self.data.nbytes
        for number in reversed(self.path):
            head = header(number, size) + head
            size = len(head) + self.data.nbytes
        return b"".join((self.message.SerializeToString(), head, self.data.data))


class LargeRequest:
    """A parsed message whose large fields are views of the received bytes.

    Args:
      message: The protobuf message without the fields; all other fields are read from it.
      values: The bytes of each large field, and the names of the fields that lead to it.
    """

    def __init__(self, message: Any, values: Sequence[tuple[tuple[str, ...], memoryview]]) -> None:
        self._message = message
        for name in {names[0] for names, _ in values}:
            inner = [(names[1:], value) for names, value in values if names[0] == name]
            large = LargeRequest(getattr(message, name), inner) if inner[0][0] else inner[0][1]
            setattr(self, name, large)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


class Field(NamedTuple):
    """A field of a serialised message: its tag is in [begin, at), its value in [at, end).

    If the bytes are cut short, `end` is beyond them.
    """

    number: int
    wire_type: int
    begin: int
    at: int
    end: int


def fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """Yields the fields of the message in [at, end).

    Stops at bytes that are no field of proto3; then the last field ends before `end`.
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


def take_out(data: bytes, path: tuple[int, ...]) -> tuple[bytes, memoryview] | None:
    """Takes a field of bytes out of a message.

    Args:
      data: The message.
      path: Numbers of the fields that lead to it: messages, and last the field of bytes.

    Returns:
      The message without the field, and the field's value; None if one of the fields is missing or repeated,
      is one of too many, or the bytes are no message.
    """
    outer: list[tuple[int, Field, int]] = []
    start, stop = 0, len(data)
    for number in path:
        read = list(islice(fields(data, start, stop), _MOST_FIELDS))
        found = [field for field in read if field.number == number]
        if len(found) != 1 or found[0].wire_type != DELIMITED or read[-1].end != stop:
            return None
        (field,) = found
        outer.append((start, field, stop))
        start, stop = field.at, field.end
    start, field, stop = outer.pop()
    rest = data[start : field.begin] + data[field.end : stop]
    value = memoryview(data)[field.at : field.end]
    for start, field, stop in reversed(outer):
        rest = data[start : field.begin] + header(field.number, len(rest)) + rest + data[field.end : stop]
    return rest, value


def header(number: int, size: int) -> bytes:
    """Returns the tag and length of a delimited field of `size` bytes."""
    return _varint(number << 3 | DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Reads a number; returns it and where it ends, past `end` if it is cut short."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, end + 1
