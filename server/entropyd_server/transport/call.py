"""One call, as interceptors and servicers see it on either transport."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from entropyd.contract.errors import EntropydError, InternalError, OverloadedError

Metadata = Sequence[tuple[str, str | bytes]]

log = logging.getLogger(__name__)

# Deadlines later than this mean that the caller set none.
_NEVER = 1e15
_NO_MEMORY_RETRY_S = 1.0


class Call:
    """One call; what a servicer needs of gRPC's `ServicerContext`.

    Servicers raise their errors: only the transport ends a call.

    Attributes:
      method: Path of the method, as in `/package.Service/Method`; "?" if it is not UTF-8.
      connection: Address of the other end of its connection, as gRPC writes it.
      malformed: Whether its metadata have a text value that is not ASCII, which gRPC does not allow.
      request_id: By which the log knows the call; empty until something is logged about it.
      events: Number of messages that were received or sent.
      write: Sends one of several messages; returns when there is room for another. Only where the response
        is a stream.
      leave: Cancels the work on the call; None before there is any.
    """

    __slots__ = (
        "_callbacks",
        "_deadline",
        "_finished",
        "_metadata",
        "_waiting",
        "connection",
        "events",
        "leave",
        "malformed",
        "method",
        "request_id",
        "write",
    )

    write: Callable[[Any], Awaitable[None]]

    def __init__(self, method: str, connection: bytes, metadata: Metadata, deadline: float) -> None:
        self.method = method
        self.connection = connection
        self._metadata = metadata
        self._deadline = deadline
        self.malformed = False
        for _, value in metadata:
            if not (value.isascii() or isinstance(value, bytes)):  # gRPC reads what is not UTF-8 as Latin-1
                self.malformed = True
        self._callbacks: list[Callable[[Call], None]] = []
        self._finished = False
        self._waiting = self.events = 0
        self.request_id = ""
        self.leave: Callable[[], object] | None = None

    @property
    def waits_for_caller(self) -> bool:
        """Whether the caller has to send or to take a message before anything goes on."""
        return self._waiting > 0

    @property
    def owed(self) -> bool:
        """Whether only the caller's first message, or the delivery of the end, is missing."""
        return self._waiting > 0 and (self._finished or not self.events)

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None if there is none."""
        return None if self._deadline > _NEVER else max(self._deadline - time.time(), 0.0)

    def add_done_callback(self, callback: Callable[[Call], None]) -> None:
        """Calls back when the call has ended, in a turn of the event loop."""
        self._callbacks.append(callback)

    def broke(self, error: BaseException) -> None:
        """Logs what handling the call raised; ends the call and the work on it."""
        if isinstance(error, MemoryError):
            log.error("%s failed: the server is out of memory", self.method)
            self.break_off(OverloadedError("the server is out of memory", retry_after_s=_NO_MEMORY_RETRY_S))
        else:
            log.error("%s failed", self.method, exc_info=error)
            self.break_off(InternalError("internal error"))

    def break_off(self, error: EntropydError) -> None:
        """Ends the call with an error, and the work on it; drops the call if it was ended before."""
        raise NotImplementedError

    def ended(self, _: object = None) -> None:
        """Makes the done callbacks, once."""
        self._waiting = 0
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
