"""Ways to call the same models: with blocking and with awaitable clients, sending floats and symbols."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import grpc

import entropyd
import entropyd.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

WIRES: tuple[Literal["float", "symbols"], ...] = ("float", "symbols")


@dataclass(frozen=True)
class Route:
    """One way.

    Attributes:
      name: What it is.
      models: The models, in the order in which they were given.
    """

    name: str
    models: Sequence[Any]


async def called(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """The result of a method of either client; one that blocks runs in a thread."""
    if asyncio.iscoroutinefunction(call):
        return await call(*arguments, **keywords)
    return await asyncio.to_thread(call, *arguments, **keywords)


@asynccontextmanager
async def routes(target: str, models: Sequence[entropyd.aio.Model]) -> AsyncIterator[list[Route]]:
    """Every way to some models, on connections of its own."""
    async with AsyncExitStack() as stack:
        found = []
        for wire in WIRES:
            awaitable = await stack.enter_async_context(entropyd.aio.Client(target, wire=wire))
            blocking = stack.enter_context(entropyd.Client(target, wire=wire))
            # Servers with the coding role alone have no `model`.
            ways: dict[str, Sequence[Any]] = {
                "aio": [entropyd.aio.Model(awaitable._session, each.info) for each in models],
                "sync": [entropyd.Model(blocking._session, each.info) for each in models],
            }
            found += [Route(f"{way}, {wire}", objects) for way, objects in ways.items()]
        yield found


def unretried(target: str) -> grpc.aio.Channel:
    """A channel on which the first failure is seen."""
    return grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)])
