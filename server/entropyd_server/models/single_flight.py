"""Shares one computation per key among all callers that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(eq=False)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class SingleFlight(Generic[K, V]):
    """Computations in flight, by key.

    Invariant: at most one computation per key is in flight; every waiter gets its result or its exception;
    cancelling one waiter affects no other.

    Args:
      cancel_abandoned: Whether a computation is cancelled with its last waiter; else it runs to its end.
    """

    def __init__(self, *, cancel_abandoned: bool = False) -> None:
        self._cancel_abandoned = cancel_abandoned
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, compute: Callable[[], Coroutine[None, None, V]]) -> V:
        """Returns the result of the computation in flight for `key`, or starts it."""
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
                # Callers that arrive while it ends start a new computation.
                self._forget(key, flight)
                flight.task.cancel()

    def _landed(self, key: K, flight: _Flight[V]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # marks it as retrieved; without waiters, asyncio would log it

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
