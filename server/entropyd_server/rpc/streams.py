"""Answering the messages of a stream as they are ready.

Owns how many messages of one stream are worked on at a time. It must not know what they ask. Invariant: every
message is answered once; at most `max_inflight` were read and their answers not yet taken by the transport;
when the caller leaves, all that is in hand is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Q = TypeVar("Q")
A = TypeVar("A")


async def answer_each(
    requests: AsyncIterator[Q],
    answer: Callable[[Q], Awaitable[A]],
    write: Callable[[A], Awaitable[None]],
    max_inflight: int,
) -> None:
    """Writes the answer of each request, in the order in which they are ready.

    Workers share the requests: one whose answer is there at once goes on with the next message itself, and
    where it has to wait, another does. A task for each message would cost more than coding a small array.

    Args:
      requests: The caller's messages, for several tasks to take from; their end is the caller's half-close.
      answer: Answers one message; what it raises ends the stream.
      write: Takes an answer; returns when there is room for another.
      max_inflight: Most messages that are read before an answer is taken.
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
