"""Answering the messages of a stream as they are ready.

Owns how many messages of one stream are worked on at a time. It must not know what they ask. Invariant: every
message is answered once; at most `max_inflight` were read and not yet taken by the transport; when the
caller leaves, all that is in hand is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

Q = TypeVar("Q")
A = TypeVar("A")


async def answers(
    requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[A]], max_inflight: int
) -> AsyncGenerator[A, None]:
    """Yields the answer of each request, in the order in which they are ready.

    Args:
      requests: The caller's messages; their end is the caller's half-close.
      answer: Answers one message; what it raises ends the stream.
      max_inflight: Most messages that are read before an answer is taken.
    """
    slots = asyncio.Semaphore(max_inflight)
    ready: asyncio.Queue[asyncio.Task[A] | None] = asyncio.Queue()
    working: set[asyncio.Task[A]] = set()

    async def read() -> None:
        try:
            async for request in requests:
                await slots.acquire()
                task = asyncio.ensure_future(answer(request))
                working.add(task)
                task.add_done_callback(ready.put_nowait)
            if working:
                await asyncio.wait(working)
        finally:
            ready.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await ready.get()) is not None:
            working.discard(task)
            yield task.result()
            slots.release()
        await reader
    finally:
        for unfinished in (reader, *working):
            unfinished.cancel()
        await asyncio.gather(reader, *working, return_exceptions=True)
