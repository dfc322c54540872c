"""One call: what its caller sent along, and the way out.

Owns the operations of gRPC's core that belong to a call. It must not know what is called. Invariants: a call
is finished once; whoever asked for it hears of its end, whether or not the caller is still there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc._cython import cygrpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Metadata = Sequence[tuple[str, str | bytes]]

_NO_FLAGS = 0
# Answers of a stream that may wait to be sent.
_MOST_UNSENT = 32
# Later than any deadline: what a caller without one sends.
_NEVER = 1e15


class Call:
    """One call, and the context of its servicer: what entropyd uses of `grpc.aio.ServicerContext`.

    Args:
      event: gRPC's, that tells of the call.
      when_idle: Has something done once there is nothing else to do.

    Attributes:
      method: Path of the method, as in `/package.Service/Method`.
    """

    __slots__ = (
        "_call",
        "_callbacks",
        "_code",
        "_deadline",
        "_metadata",
        "_open",
        "_outbox",
        "_sender",
        "_trailing",
        "_watched",
        "_when_idle",
        "method",
    )

    def __init__(self, event: Any, when_idle: Callable[[Callable[[], None]], None]) -> None:
        self._when_idle = when_idle
        self._call = event.call
        self._metadata: Metadata = event.invocation_metadata
        self._deadline: float = event.call_details.deadline
        self.method: str = event.call_details.method.decode()
        self._callbacks: list[Callable[[Call], None]] = []
        self._open = self._watched = False
        self._code = grpc.StatusCode.OK
        self._trailing: Metadata = ()
        self._outbox: deque[bytes] = deque()
        self._sender: asyncio.Future[None] | None = None

    def invocation_metadata(self) -> Metadata:
        """What the caller sent along."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None if it will not."""
        return None if self._deadline > _NEVER else max(self._deadline - time.time(), 0.0)

    def code(self) -> grpc.StatusCode:
        """What the call ends with, as far as is known."""
        return self._code

    def trailing_metadata(self) -> Metadata:
        """What the caller is sent at the end."""
        return self._trailing

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """Ends the call with an error.

        Raises:
          grpc.aio.AbortError: Always; it is to reach the transport.
        """
        self._code, self._trailing = code, trailing_metadata
        raise grpc.aio.AbortError(details)

    def add_done_callback(self, callback: Callable[[Call], None]) -> None:
        """Has the end of the call told, in a turn."""
        self._callbacks.append(callback)

    def expect(self, then: Callable[[bytes | None], None]) -> None:
        """Has the only message told; None when there is none, or the caller has left."""

        def received(event: Any) -> None:
            then(event.batch_operations[0].message())

        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), received)

    async def receive(self) -> bytes | None:
        """The next message of a stream; None at its end, or when the caller has left."""
        event = await self._done(cygrpc.ReceiveMessageOperation(_NO_FLAGS))
        message: bytes | None = event.batch_operations[0].message()
        return message

    async def send(self, message: bytes) -> None:
        """Sends a message of a stream; returns when few are on their way."""
        self._outbox.append(message)
        if len(self._outbox) == 1:
            # By then, more may be answered: messages that are sent together share writes to the connection.
            self._when_idle(self._send_next)
        while len(self._outbox) > _MOST_UNSENT:
            await self._until_sent()

    async def flush(self) -> None:
        """Returns when all messages of a stream are on their way."""
        while self._outbox:
            await self._until_sent()

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
        status = cygrpc.SendStatusFromServerOperation(
            self._trailing, code.value[0], details.encode(), _NO_FLAGS
        )
        closing = () if self._watched else (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)
        self._call.start_server_batch((*self._opening(), *sending, status, *closing), self._ended)

    def _send_next(self) -> None:
        flags = _NO_FLAGS if len(self._outbox) == 1 else cygrpc.WriteFlag.buffer_hint
        sending = cygrpc.SendMessageOperation(self._outbox[0], flags)
        self._call.start_server_batch((*self._opening(), sending), self._sent)

    def _sent(self, event: Any) -> None:  # noqa: ARG002 - gRPC hands it over
        self._outbox.popleft()
        if self._outbox:
            self._send_next()
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)

    async def _until_sent(self) -> None:
        self._sender = asyncio.get_running_loop().create_future()
        await self._sender

    async def _done(self, *operations: Any) -> Any:
        """Waits for operations; the event that tells of their end."""
        done = asyncio.get_running_loop().create_future()

        def settle(event: Any) -> None:
            if not done.done():  # whoever waited may have been cancelled
                done.set_result(event)

        self._call.start_server_batch(operations, settle)
        return await done

    def _opening(self) -> tuple[Any, ...]:
        if self._open:
            return ()
        self._open = True
        return (cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),)

    def _ended(self, event: Any) -> None:  # noqa: ARG002 - gRPC hands it over
        for callback in self._callbacks:
            callback(self)
