"""A message with one large field.

Owns how such a message is serialised with a single copy of that field. It must not know what messages mean.
Invariant: what it serialises to is read as the whole message is.

Source: https://protobuf.dev/programming-guides/encoding/#last-one-wins - a field that holds a message may
occur again, and is merged then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy.typing as npt

_DELIMITED = 2


class LargeMessage(NamedTuple):
    """A message to serialise, as gRPC does, and its large field.

    Attributes:
      message: The protobuf message without the field.
      path: Numbers of the fields that lead to it: messages, and last the field of bytes.
      data: C-contiguous array of its bytes, in the order that they are to have.
    """

    message: Any
    path: tuple[int, ...]
    data: npt.NDArray[Any]

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """The whole message's bytes."""
        head, size = b"", self.data.nbytes
        for number in reversed(self.path):
            head = _varint(number << 3 | _DELIMITED) + _varint(size) + head
            size = len(head) + self.data.nbytes
        return b"".join((self.message.SerializeToString(), head, self.data.data))


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))
