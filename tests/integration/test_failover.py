"""Two servers on one store behind a client that takes turns: losing one costs nobody an answer."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in listening]


@pytest.fixture
def pair(store_url: str, server: LocalServer) -> Iterator[tuple[list[LocalServer], str]]:
    """Two servers with the coding role, and a target that names both."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                LocalServer("--role", "coding", "--drain-seconds", "1", listen=address, store=store_url)
            )
            for address in addresses
        ]
        yield servers, f"ipv4:{','.join(addresses)}"


async def under_load(model: entropyd.Model, target: str, event: asyncio.Event, visits: int) -> int:
    """Keeps 16 callers busy; sets the event when a third is done; counts right answers."""
    x = np.random.default_rng(0).normal(0, 3, (3, 40, 3)).astype(np.float32)
    right = 0
    async with entropyd.aio.Client(target, timeout_s=30) as client:
        expected = (await client.compress(model.info, x)).payload

        async def caller() -> None:
            nonlocal right
            for _ in range(visits):
                compressed = await client.compress(model.info, x)
                assert compressed.payload == expected
                values = await client.decompress(model.info, compressed)
                assert np.abs(values - x).max() <= 0.5 + 1e-6
                right += 1
                if right == 16 * visits // 3:
                    event.set()

        await asyncio.gather(*(caller() for _ in range(16)))
    return right


def test_a_killed_server_costs_no_answer(pair: tuple[list[LocalServer], str], model: entropyd.Model) -> None:
    servers, target = pair

    async def main() -> None:
        event = asyncio.Event()
        loading = asyncio.create_task(under_load(model, target, event, 150))
        await event.wait()
        servers[0].process.send_signal(signal.SIGKILL)
        assert await loading == 16 * 150

    asyncio.run(main())


def test_a_server_that_is_told_to_stop_fails_no_call(
    pair: tuple[list[LocalServer], str], model: entropyd.Model
) -> None:
    servers, target = pair

    async def main() -> None:
        event = asyncio.Event()
        loading = asyncio.create_task(under_load(model, target, event, 250))
        await event.wait()
        servers[1].process.send_signal(signal.SIGTERM)
        assert await loading == 16 * 250

    asyncio.run(main())
    assert servers[1].process.wait() == 0


def test_a_second_signal_ends_a_drain_at_once(store_url: str) -> None:
    with LocalServer("--role", "coding", "--drain-seconds", "600", store=store_url) as running:
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(timeout=1)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=30) == 0
