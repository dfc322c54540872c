"""Answers the messages of a stream, several at a time, as their responses are ready.

Invariants: every message is answered once; at most `max_inflight` messages have been read whose responses the
transport has not accepted; if the caller leaves, the work on all of them is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


async def answer_each(
    requests: AsyncIterator[Q],
    answer: Callable[[Q], Awaitable[A]],
    write: Callable[[A], Awaitable[None]],
    max_inflight: int,
) -> None:
    """Writes the response to each request, in the order in which they are ready.

    Tasks share the requests. One whose response is ready at once takes the next message itself; while it
    waits, another task does. A task for each message would cost more than coding a small array.

    Args:
      requests: The caller's messages; several tasks may iterate. They end with the caller's half-close.
      answer: Answers one message; an exception of it ends the stream.
      write: Sends a response; returns when there is room for another.
      max_inflight: Most messages that are read before a response is accepted.
    """
    working: set[asyncio.Task[None]] = set()
    ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
    idle = 0

    def add_worker() -> None:
        nonlocal idle
        idle += 1
        worker = asyncio.ensure_future(work())
        working.add(worker)
        worker.add_done_callback(ended.put_nowait)

    async def work() -> None:
        nonlocal idle
        async for request in requests:
            idle -= 1
            if not idle and len(working) < max_inflight:
                add_worker()
            await write(await answer(request))
            idle += 1

    add_worker()
    try:
        while working:
            worker = await ended.get()
            working.discard(worker)
            worker.result()
    finally:
        for worker in working:
            worker.cancel()
        await asyncio.gather(*working, return_exceptions=True)
