"""One call: its metadata, and the operations of gRPC's core that receive its messages, answer it and end it.

Invariants: a call is finished once and starts no operation after that. Its done callbacks are called once,
also if the caller leaves or memory runs out.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

import grpc
from grpc._cython import cygrpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Metadata = Sequence[tuple[str, str | bytes]]

log = logging.getLogger(__name__)

_NO_FLAGS = 0
# Longest text of an error; percent-encoding in the trailers can triple it.
_MOST_DETAILS_BYTES = 600
# Deadlines later than this mean that the caller set none.
_NEVER = 1e15


class Call:
    """One call, and the context of its servicer: what entropyd uses of gRPC's `ServicerContext`.

    gRPC's core calls back when an operation has ended. If it cannot read the event of an operation, as when
    memory runs out, it drops the callback. So each call holds weak references to its callbacks: one that
    died without being called was dropped.

    Attributes:
      method: Path of the method, as in `/package.Service/Method`; "?" if it is not UTF-8.
      connection: Address of the other end of its connection, as gRPC writes it.
      malformed: Whether its metadata have a text value that is not ASCII, which gRPC does not allow.
      events: Number of messages that were received or sent.
      write: Sends one of several messages; returns when there is room for another. Only where the response
        is a stream.
      leave: Cancels the work on the call; None before there is any.
    """

    __slots__ = (
        "_call",
        "_callbacks",
        "_closing",
        "_code",
        "_deadline",
        "_ending",
        "_finished",
        "_metadata",
        "_open",
        "_receiver",
        "_receiving",
        "_sender",
        "_sending",
        "_trailing",
        "_waiting",
        "_watched",
        "connection",
        "events",
        "leave",
        "malformed",
        "method",
        "write",
    )

    write: Callable[[Any], Awaitable[None]]
    _receiver: Callable[[bytes | None], None]
    _sender: Callable[[Any], None]

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self.connection: bytes = event.call.peer()
        self._metadata: Metadata = event.invocation_metadata
        self._deadline: float = event.call_details.deadline
        try:
            self.method: str = event.call_details.method.decode()
        except UnicodeDecodeError:
            self.method = "?"
        self.malformed = False
        for _, value in self._metadata:
            if not (value.isascii() or isinstance(value, bytes)):  # gRPC reads what is not UTF-8 as Latin-1
                self.malformed = True
        self._callbacks: list[Callable[[Call], None]] = []
        self._open = self._watched = self._finished = False
        self._code = grpc.StatusCode.OK
        self._trailing: Metadata = ()
        self._waiting = self.events = 0
        self._receiving: ref[Any] | None = None
        self._sending: ref[Any] | None = None
        self._closing: ref[Any] | None = None
        self._ending: ref[Any] | None = None
        self.leave: Callable[[], object] | None = None

    @property
    def waits_for_caller(self) -> bool:
        """Whether the caller is to send or to take a message before anything goes on."""
        return self._waiting > 0

    @property
    def owed(self) -> bool:
        """Whether nothing can be done but wait for the caller: for its first message, or to take the end."""
        return self._waiting > 0 and (self._finished or not self.events)

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
        """Has the next message told; None when there is none, or the caller has left. One at a time."""
        if self._finished:
            then(None)
            return
        self._receiver = then
        callback = self._received
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), callback)
        self._receiving = ref(callback)
        self._waiting += 1

    def send(self, message: bytes, then: Callable[[Any], None], *, more: bool) -> None:
        """Sends one of several messages, and tells when the next one may be sent. One at a time.

        Args:
          message: The message.
          then: Is told.
          more: Whether another follows; they go out together.
        """
        if self._finished:
            then(None)
            return
        self._sender = then
        # Not of the first message: gRPC would keep it back together with the opening, and tell of no end.
        flags = cygrpc.WriteFlag.buffer_hint if more and self._open else _NO_FLAGS
        sending = cygrpc.SendMessageOperation(message, flags)
        callback = self._sent
        self._call.start_server_batch((*self._opening(), sending), callback)
        self._sending = ref(callback)
        self._waiting += 1

    def watch(self) -> None:
        """Cancels the work on the call, in a turn, when the caller leaves or its deadline passes."""
        self._watched = True
        callback = self._closed
        self._call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), callback)
        self._closing = ref(callback)

    def finish(self, message: bytes | None = None) -> None:
        """Ends the call well, with the last message if there is one; unless it has been ended."""
        sending = () if message is None else (cygrpc.SendMessageOperation(message, _NO_FLAGS),)
        self._end(sending, grpc.StatusCode.OK, "")

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call with an error, unless it has been ended."""
        self._end((), code, details)

    def end_if_lost(self) -> None:
        """Ends the call if gRPC has dropped the callback of one of its operations."""
        if _dropped(self._ending):
            self._ended()
        elif _dropped(self._receiving) or _dropped(self._sending) or _dropped(self._closing):
            self._receiving = self._sending = self._closing = None
            self.broke(MemoryError())

    def broke(self, error: BaseException) -> None:
        """Ends the call, and the work on it, for what dealing with it raised."""
        if isinstance(error, MemoryError):
            log.error("%s failed for want of memory", self.method)
            self.break_off(grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is out of memory")
        else:
            log.error("%s failed", self.method, exc_info=error)
            self.break_off(grpc.StatusCode.INTERNAL, "internal error")

    def break_off(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call with an error, and the work on it; drops it if it has been ended."""
        if self._finished:
            self._call.cancel()
            return
        self.fail(code, details)
        if self.leave is not None:
            self.leave()

    def _end(self, sending: tuple[Any, ...], code: grpc.StatusCode, details: str) -> None:
        if self._finished:
            return
        self._finished = True
        self._code = code
        try:
            status = cygrpc.SendStatusFromServerOperation(
                self._trailing, code.value[0], _shortened(details) if details else b"", _NO_FLAGS
            )
            closing = () if self._watched else (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)
            callback = self._ended
            self._call.start_server_batch((*self._opening(), *sending, status, *closing), callback)
            self._ending = ref(callback)
        except MemoryError:
            self._call.cancel()
            self._ended()
        else:
            self._waiting += 1

    def _opening(self) -> tuple[Any, ...]:
        if self._open:
            return ()
        self._open = True
        return (cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),)

    def _received(self, event: Any) -> None:
        self._receiving = None
        self._waiting -= 1
        self.events += 1
        receiver = self._receiver
        del self._receiver  # which knows this call
        receiver(event.batch_operations[0].message())

    def _sent(self, event: Any) -> None:
        self._sending = None
        self._waiting -= 1
        self.events += 1
        sender = self._sender
        del self._sender
        sender(event)

    def _closed(self, event: Any) -> None:
        self._closing = None
        if event.batch_operations[0].cancelled() and self.leave is not None:
            self.leave()

    def _ended(self, _: object = None) -> None:
        self._ending = None
        self._waiting = 0
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def _dropped(callback: ref[Any] | None) -> bool:
    return callback is not None and callback() is None


def _shortened(details: str) -> bytes:
    return details.encode(errors="replace")[:_MOST_DETAILS_BYTES].decode(errors="ignore").encode()
