"""The messages of a streaming call on gRPC's core.

Invariants: messages keep their order; only a few are received before they are taken, or accepted before they
are sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from entropyd_server.transport.core_call import CoreCall

_MOST_UNREAD = 16
_MOST_UNSENT = 32


class Stream:
    """Iterates over the messages that a caller sends, and sends it messages.

    Several tasks may iterate; each message goes to one of them.
    """

    def __init__(self, call: CoreCall, parse: Callable[[bytes], Any], render: Callable[[Any], bytes]) -> None:
        self._call = call
        self._parse = parse
        self._render = render
        self._unread: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._unsent: deque[bytes] = deque()
        self._receiving = False
        self._sent_one = asyncio.Event()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if not self._receiving:
            self._receive_next()
        message = await self._unread.get()
        if message is None:
            self._unread.put_nowait(None)  # for the other tasks
            raise StopAsyncIteration
        return self._parse(message)

    async def write(self, message: Any) -> None:
        """Sends a message; waits until few are left to send."""
        self._unsent.append(self._render(message))
        if len(self._unsent) == 1:
            # Later in this turn, so that other responses of the turn are sent together with it.
            asyncio.get_running_loop().call_soon(self._send_first)
        await self._until_unsent(_MOST_UNSENT - 1)

    async def flush(self) -> None:
        """Waits until everything is sent."""
        await self._until_unsent(0)

    def _receive_next(self) -> None:
        self._receiving = self._unread.qsize() < _MOST_UNREAD
        if self._receiving:
            self._call.receive(self._received)

    def _received(self, message: bytes | None) -> None:
        self._unread.put_nowait(message)
        if message is not None:  # after the end, `_receiving` stays true so that nothing more is received
            self._receive_next()

    def _send_first(self) -> None:
        self._call.send(self._unsent[0], self._sent, more=len(self._unsent) > 1)

    def _sent(self, event: Any) -> None:  # noqa: ARG002 - gRPC passes it
        self._unsent.popleft()
        if self._unsent:
            self._send_first()
        self._sent_one.set()

    async def _until_unsent(self, most: int) -> None:
        while len(self._unsent) > most:
            self._sent_one.clear()
            await self._sent_one.wait()
