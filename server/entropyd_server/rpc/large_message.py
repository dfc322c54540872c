"""A message with one large field.

Owns how such a message is serialised with a single copy of that field, and how one is read without any. It
must not know what messages mean. Invariant: what it serialises to is read as the whole message is; what is
read has the values that it has when it is read as a whole.

Source: https://protobuf.dev/programming-guides/encoding/#last-one-wins - a field that holds a message may
occur again, and is merged then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from entropyd_server.rpc.wire_fields import header

if TYPE_CHECKING:
    import numpy.typing as npt


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
            head = header(number, size) + head
            size = len(head) + self.data.nbytes
        return b"".join((self.message.SerializeToString(), head, self.data.data))


class LargeRequest:
    """A message whose large field stays where it was received; its other fields are the message's own.

    Args:
      message: The protobuf message without the field.
      names: Of the fields that lead to it.
      value: What is in it.
    """

    def __init__(self, message: Any, names: tuple[str, ...], value: memoryview) -> None:
        name, *further = names
        self._message = message
        inner = LargeRequest(getattr(message, name), tuple(further), value) if further else value
        setattr(self, name, inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)
