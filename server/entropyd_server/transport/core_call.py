"""The operations of gRPC's core that receive a call's messages, answer it and end it.

Invariants: a call is finished once and starts no operation after that. Its done callbacks are called once,
also if the caller leaves or memory runs out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import ref

from grpc._cython import cygrpc

from entropyd.contract.errors import EntropydError
from entropyd_server.transport.call import Call
from entropyd_server.transport.status import status_of

log = logging.getLogger(__name__)

_NO_FLAGS = 0
_OK = 0


class CoreCall(Call):
    """A call on gRPC's core.

    gRPC's core calls back when an operation has ended. If it cannot read the event of an operation, as when
    memory runs out, it drops the callback. So each call holds weak references to its callbacks: one that
    died without being called was dropped.
    """

    __slots__ = (
        "_call",
        "_closing",
        "_ending",
        "_open",
        "_receiver",
        "_receiving",
        "_sender",
        "_sending",
        "_watched",
    )

    _receiver: Callable[[bytes | None], None]
    _sender: Callable[[Any], None]

    def __init__(self, event: Any) -> None:
        call, details = event.call, event.call_details
        try:
            method = details.method.decode()
        except UnicodeDecodeError:
            method = "?"
        super().__init__(method, call.peer(), event.invocation_metadata, details.deadline)
        self._call = call
        self._open = self._watched = False
        self._receiving: ref[Any] | None = None
        self._sending: ref[Any] | None = None
        self._closing: ref[Any] | None = None
        self._ending: ref[Any] | None = None

    def receive(self, then: Callable[[bytes | None], None]) -> None:
        """Receives the next message, one at a time: None if there is none, or the caller has left."""
        if self._finished:
            then(None)
            return
        self._receiver = then
        callback = self._received
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), callback)
        self._receiving = ref(callback)
        self._waiting += 1

    def send(self, message: bytes, then: Callable[[Any], None], *, more: bool) -> None:
        """Sends one of several messages; `then` is called when the next may be sent.

        If `more` follow, they are sent together.
        """
        if self._finished:
            then(None)
            return
        self._sender = then
        # Not for the first message: gRPC would hold it back with the initial metadata, and never call back.
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

    def end_if_lost(self) -> None:
        """Ends the call if gRPC has dropped the callback of one of its operations."""
        if _dropped(self._ending):
            self._ended()
        elif _dropped(self._receiving) or _dropped(self._sending) or _dropped(self._closing):
            self._receiving = self._sending = self._closing = None
            self.broke(MemoryError())

    def break_off(self, error: EntropydError) -> None:
        if self._finished:
            self._call.cancel()
            return
        self.end(None, error)
        if self.leave is not None:
            self.leave()

    def end(self, message: bytes | None, error: EntropydError | None = None) -> None:
        """Ends the call, unless it was ended: with an error, or well, with the last message if any."""
        if self._finished:
            return
        self._finished = True
        try:
            if error is None:
                status = cygrpc.SendStatusFromServerOperation((), _OK, b"", _NO_FLAGS)
            else:
                code, details, trailing = status_of(error, self)
                status = cygrpc.SendStatusFromServerOperation(
                    trailing, code.value[0], details.encode(), _NO_FLAGS
                )
            sending = () if message is None else (cygrpc.SendMessageOperation(message, _NO_FLAGS),)
            closing = () if self._watched else (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)
            callback = self._ended
            self._call.start_server_batch((*self._opening(), *sending, status, *closing), callback)
            self._ending = ref(callback)
        except Exception as failed:
            if not isinstance(failed, MemoryError):
                log.exception("the end of %s was not sent", self.method)
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
        self.ended()


def _dropped(callback: ref[Any] | None) -> bool:
    return callback is not None and callback() is None
