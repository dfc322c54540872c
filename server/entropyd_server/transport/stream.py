"""The messages of a call that streams.

Owns how many of them wait on this side. It must not know what is in them. Invariants: messages keep their
order; no more than a few are read before they are taken, or taken before they are sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.transport.call import Call

_MOST_UNREAD = 16
_MOST_UNSENT = 32


class Stream:
    """The messages that a caller sends and is sent.

    Args:
      call: The call.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._unread: deque[bytes | None] = deque()
        self._unsent: deque[bytes] = deque()
        self._receiving = False
        self._changed = asyncio.Event()

    async def receive(self) -> bytes | None:
        """The next message; None at the end, or when the caller has left."""
        if not self._receiving:
            self._receive_next()
        await self._until(lambda: bool(self._unread))
        return self._unread.popleft()

    async def send(self, message: bytes) -> None:
        """Sends a message; returns when few wait to be sent."""
        self._unsent.append(message)
        if len(self._unsent) == 1:
            self._send_first()
        await self._until(lambda: len(self._unsent) < _MOST_UNSENT)

    async def flush(self) -> None:
        """Returns when everything is sent."""
        await self._until(lambda: not self._unsent)

    def _receive_next(self) -> None:
        self._receiving = len(self._unread) < _MOST_UNREAD
        if self._receiving:
            self._call.receive(self._received)

    def _received(self, message: bytes | None) -> None:
        self._unread.append(message)
        if message is not None:  # after the end, it stays as if one were being received
            self._receive_next()
        self._changed.set()

    def _send_first(self) -> None:
        self._call.send(self._unsent[0], self._sent)

    def _sent(self, event: Any) -> None:  # noqa: ARG002 - gRPC hands it over
        self._unsent.popleft()
        if self._unsent:
            self._send_first()
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
