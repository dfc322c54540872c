"""Runs tests on either transport: on both where they ask for it, else on the one of ENTROPYD_TRANSPORT."""

from __future__ import annotations

import asyncio
import os
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from entropyd_server.transport.transports import AIO, CORE, choose

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from entropyd_server.transport.server import Server
    from entropyd_server.transport.transports import Transport

T = TypeVar("T")


class Current:
    """The transport of the test that runs."""

    transport: Transport = choose(os.environ.get("ENTROPYD_TRANSPORT", CORE))


@pytest.fixture(params=[CORE, AIO])
def each_transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on both transports."""
    before, Current.transport = Current.transport, choose(request.param)
    yield request.param
    Current.transport = before


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the event loop of the transport, and to their end the tasks of grpc.aio beside it.

    An event for a loop that is closed would be logged as an error by the next loop of this process.
    """

    async def whole() -> T:
        try:
            return await main
        finally:
            compiled = [
                task for task in asyncio.all_tasks() if not isinstance(task.get_coro(), CoroutineType)
            ]
            if compiled:
                await asyncio.wait(compiled)

    result: T = Current.transport.run(whole())
    return result


def new_server(options: Sequence[tuple[str, int]] = ()) -> Server:
    """A server on the running loop."""
    return Current.transport.server(options, None)
