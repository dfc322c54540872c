"""One computation per key, however many wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

K = TypeVar("K")
V = TypeVar("V")


@dataclass(eq=False)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class SingleFlight(Generic[K, V]):
    """Shares computations in flight.

    Invariant: at most one computation per key is in flight; every waiter gets its result or its exception,
    and a waiter that is cancelled takes nothing from the others.

    Args:
      cancel_abandoned: Whether a computation is cancelled when its last waiter is; else it runs to its end.
    """

    def __init__(self, *, cancel_abandoned: bool = False) -> None:
        self._cancel_abandoned = cancel_abandoned
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, compute: Callable[[], Coroutine[None, None, V]]) -> V:
        """Awaits the computation of `key`, starting it if none is in flight."""
        flight = self._flights.get(key)
        if flight is None:
            flight = started = self._flights[key] = _Flight(asyncio.create_task(compute()))
            flight.task.add_done_callback(lambda _: self._landed(key, started))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if self._cancel_abandoned and not flight.waiters and not flight.task.done():
                # Whoever comes while it ends begins anew.
                self._forget(key, flight)
                flight.task.cancel()

    def _landed(self, key: K, flight: _Flight[V]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            # The waiters have it too; but where all have left, asyncio wants it asked for.
            flight.task.exception()

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
