"""One call: what its caller sent along, and the way out.

Owns the operations of gRPC's core that belong to a call. It must not know what is called. Invariants: a call
is finished once, and begins nothing after that; whoever asked for it hears of its end, whether or not the
caller is still there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc._cython import cygrpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Metadata = Sequence[tuple[str, str | bytes]]

_NO_FLAGS = 0
# Later than any deadline: what a caller without one sends.
_NEVER = 1e15


class Call:
    """One call, and the context of its servicer: what entropyd uses of gRPC's `ServicerContext`.

    Attributes:
      method: Path of the method, as in `/package.Service/Method`.
      write: Sends one of several messages; returns when there is room for another. Only where the method's
        answer is a stream.
    """

    __slots__ = (
        "_call",
        "_callbacks",
        "_code",
        "_deadline",
        "_finished",
        "_metadata",
        "_open",
        "_trailing",
        "_watched",
        "method",
        "write",
    )

    write: Callable[[Any], Awaitable[None]]

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self._metadata: Metadata = event.invocation_metadata
        self._deadline: float = event.call_details.deadline
        self.method: str = event.call_details.method.decode()
        self._callbacks: list[Callable[[Call], None]] = []
        self._open = self._watched = self._finished = False
        self._code = grpc.StatusCode.OK
        self._trailing: Metadata = ()

    def invocation_metadata(self) -> Metadata:
        """What the caller sent along."""
        return self._metadata

    def peer(self) -> str:
        """Address of the caller's connection, as gRPC writes it."""
        return str(self._call.peer())

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None if it will not."""
        return None if self._deadline > _NEVER else max(self._deadline - time.time(), 0.0)

    def code(self) -> grpc.StatusCode:
        """What the call ends with, as far as is known."""
        return self._code

    def trailing_metadata(self) -> Metadata:
        """What the caller is sent at the end."""
        return self._trailing

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Ends the call with an error.

        Raises:
          grpc.aio.AbortError: Always; it is to reach the transport.
        """
        self._code, self._trailing = code, trailing_metadata
        raise grpc.aio.AbortError(details)

    def add_done_callback(self, callback: Callable[[Call], None]) -> None:
        """Has the end of the call told, in a turn."""
        self._callbacks.append(callback)

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Has the next message told; None when there is none, or the caller has left."""
        if self._finished:
            then(None)
            return

        def received(event: Any) -> None:
            then(event.batch_operations[0].message())

        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), received)

    def send(self, message: bytes, then: Callable[[Any], None], *, more: bool) -> None:
        """Sends one of several messages, and tells when the next one may be sent.

        Args:
          message: The message.
          then: Is told.
          more: Whether another follows; they go out together.
        """
        if self._finished:
            then(None)
            return
        # Not of the first message: gRPC would keep it back together with the opening, and tell of no end.
        flags = cygrpc.WriteFlag.buffer_hint if more and self._open else _NO_FLAGS
        sending = cygrpc.SendMessageOperation(message, flags)
        self._call.start_server_batch((*self._opening(), sending), then)

    def watch(self, left: Callable[[], object]) -> None:
        """Has it told, in a turn, when the caller leaves or its deadline passes."""
        self._watched = True

        def closed(event: Any) -> None:
            if event.batch_operations[0].cancelled():
                left()

        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), closed)

    def finish(self, message: bytes | None = None) -> None:
        """Ends the call well, with the last message if there is one."""
        sending = () if message is None else (cygrpc.SendMessageOperation(message, _NO_FLAGS),)
        self._end(sending, grpc.StatusCode.OK, "")

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call with an error."""
        self._code = code
        self._end((), code, details)

    def _end(self, sending: tuple[Any, ...], code: grpc.StatusCode, details: str) -> None:
        self._finished = True
        status = cygrpc.SendStatusFromServerOperation(
            self._trailing, code.value[0], details.encode(), _NO_FLAGS
        )
        closing = () if self._watched else (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)
        self._call.start_server_batch((*self._opening(), *sending, status, *closing), self._ended)

    def _opening(self) -> tuple[Any, ...]:
        if self._open:
            return ()
        self._open = True
        return (cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),)

    def _ended(self, event: Any) -> None:  # noqa: ARG002 - gRPC hands it over
        for callback in self._callbacks:
            callback(self)
