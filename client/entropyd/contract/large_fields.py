"""Messages with large fields of bytes, read and written without protobuf's copies of it.

Invariant: a message is written to the same bytes as by protobuf, and one read in this way has the same
values.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy.typing as npt
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

# The wire type of strings, bytes and messages: a length and as many bytes.
DELIMITED = 2
_VARINT = 0
_FIXED_BYTES = {1: 8, 5: 4}
# Messages with more fields than this are left to protobuf.
_MOST_FIELDS = 32
# Protobuf copies a field of bytes when it parses it and again at each access. To take a field out in Python
# costs about as much as to copy this many bytes.
_LARGE_BYTES = 1 << 17


class LargeMessage(NamedTuple):
    """A message to serialise, and its large fields.

    Attributes:
      message: The protobuf message without the fields, but with the messages around them.
      values: Of each field, the numbers of the fields that lead to it: messages, and last the field of bytes,
        which is the last one of its message; and a C-contiguous array of its bytes.
    """

    message: Any
    values: Sequence[tuple[tuple[int, ...], npt.NDArray[Any]]]

    def SerializeToString(self) -> bytes:
        """Serialises the whole message, to the bytes that protobuf would; copies the fields once."""
        values = [value for value in self.values if value[1].nbytes]  # protobuf leaves out what is empty
        if sum(value.nbytes for _, value in values) <= _LARGE_BYTES:
            for path, value in values:
                _set(self.message, path, value.tobytes())
            data: bytes = self.message.SerializeToString()
            return data
        return b"".join(_with_values(self.message.SerializeToString(), values)[0])


def _set(message: Any, path: tuple[int, ...], value: bytes) -> None:
    """Sets a field that others lead to."""
    *outer, last = path
    for number in outer:
        message = getattr(message, message.DESCRIPTOR.fields_by_number[number].name)
    setattr(message, message.DESCRIPTOR.fields_by_number[last].name, value)


def _with_values(
    data: bytes, values: Sequence[tuple[tuple[int, ...], npt.NDArray[Any]]]
) -> tuple[list[Any], int]:
    """The parts of a serialised message with large fields in it, and the bytes of all."""
    parts: list[Any] = []
    copied, size = 0, len(data)
    inner = {path[0] for path, _ in values if len(path) > 1}
    for field in fields(data, 0, len(data)) if inner else ():
        if field.number in inner:
            own = [(path[1:], value) for path, value in values if path[0] == field.number]
            within, length = _with_values(data[field.at : field.end], own)
            head = header(field.number, length)
            parts += [data[copied : field.begin], head, *within]
            size += len(head) + length - (field.end - field.begin)
            copied = field.end
            inner.remove(field.number)
            if not inner:
                break
    parts.append(data[copied:])
    for path, value in values:
        if len(path) == 1:
            head = header(path[0], value.nbytes)
            parts += [head, value.data]
            size += len(head) + value.nbytes
    return parts, size


class ViewedMessage:
    """A parsed message whose large fields are views of the received bytes.

    Args:
      message: The protobuf message without the fields; all other fields are read from it.
      values: The bytes of each large field, and the names of the fields that lead to it.
    """

    def __init__(self, message: Any, values: Sequence[tuple[tuple[str, ...], memoryview]]) -> None:
        self._message = message
        for name in {names[0] for names, _ in values}:
            inner = [(names[1:], value) for names, value in values if names[0] == name]
            large = ViewedMessage(getattr(message, name), inner) if inner[0][0] else inner[0][1]
            setattr(self, name, large)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


def take_out_large(
    data: bytes, message_type: type[Message], paths: Iterable[tuple[str, ...]]
) -> tuple[bytes, list[tuple[tuple[str, ...], memoryview]]]:
    """Takes fields of bytes out of a serialised message while it is large.

    Args:
      data: The message.
      message_type: Its type.
      paths: Names of the fields that lead to each field of bytes, the largest first.

    Returns:
      The message without the fields, and the path and value of each field that was taken out.
    """
    descriptor = cast("Descriptor", message_type.DESCRIPTOR)
    values = []
    for names in paths:
        if len(data) <= _LARGE_BYTES:
            break
        large = take_out(data, _numbers(descriptor, names))
        if large is not None:
            data, value = large
            values.append((names, value))
    return data, values


@lru_cache
def _numbers(descriptor: Descriptor, names: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of a path of fields, each in the message of the one before."""
    if not names:
        return ()
    field = descriptor.fields_by_name[names[0]]
    return (field.number, *_numbers(field.message_type, names[1:]))


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
