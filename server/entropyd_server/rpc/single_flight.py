"""One computation per key, however many wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

K = TypeVar("K")
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Shares computations in flight.

    Invariant: at most one computation per key runs at a time; every waiter gets its result or its exception,
    and a waiter that is cancelled takes nothing from the others. A computation whose waiters have all left
    runs to its end.
    """

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, compute: Callable[[], Coroutine[None, None, V]]) -> V:
        """Awaits the computation of `key`, starting it if none is in flight."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(compute())
            flight.add_done_callback(lambda task: self._landed(key, task))
        return await asyncio.shield(flight)

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # the waiters have it too; but where all have left, asyncio wants it asked for
