"""Callers that keep servers busy, and count right responses.

A wrong response or a failed call ends the load with an error.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np

import entropyd
import entropyd.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CALLERS = 16


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in listening]


class Load:
    """Counts the callers' compressions and decompressions with the right result, `right`."""

    def __init__(self) -> None:
        self.right = 0
        self._changed = asyncio.Condition()

    async def count(self) -> None:
        """Adds one."""
        async with self._changed:
            self.right += 1
            self._changed.notify_all()

    async def answers(self, more: int) -> None:
        """Waits for that many more right results."""
        enough = self.right + more
        async with self._changed:
            await self._changed.wait_for(lambda: self.right >= enough)


@asynccontextmanager
async def under_load(
    models: Sequence[entropyd.Model], target: str, batch_shape: tuple[int, ...] = (3, 40)
) -> AsyncIterator[Load]:
    """Callers that take turns over models for as long as the block lasts, with arrays of `batch_shape`."""
    load = Load()
    async with entropyd.aio.Client(target, timeout_s=30) as client:
        ending = asyncio.Event()

        async def caller(number: int) -> None:
            info = models[number % len(models)].info
            model = entropyd.aio.Model(client._session, info)
            shape = (*batch_shape, *model.config.prior_shape)
            x = np.random.default_rng(number).normal(0, 3, shape).astype(model.config.bottleneck_dtype)
            expected = (await model.compress(x)).payload
            while not ending.is_set():
                compressed = await model.compress(x)
                assert compressed.payload == expected
                values = await model.decompress(compressed)
                assert np.abs(values - x).max() <= 0.5 + 1e-6
                await load.count()

        async def callers() -> None:
            await asyncio.gather(*(caller(number) for number in range(CALLERS)))

        calling = asyncio.ensure_future(callers())
        block = asyncio.current_task()
        assert block is not None
        # A caller that fails must not leave the block waiting for answers.
        calling.add_done_callback(lambda _: None if ending.is_set() else block.cancel())
        try:
            yield load
        except asyncio.CancelledError:
            if calling.done():
                await calling
            raise
        finally:
            ending.set()
            await asyncio.wait([calling])
        await calling
