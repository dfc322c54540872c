"""What metrics and traces learn of queues and batches."""

from __future__ import annotations

from typing import Any, Protocol

from entropyd_server.batching.queue import Batch, Entry, Key


class BatchObserver(Protocol):
    """Told of every batch and every caller, in turns of the event loop only. Times are the queue's."""

    def refused(self, reason: str) -> None:
        """A caller was refused (`queue_full`, `deadline`) or its deadline passed in the queue (`expired`)."""

    def ran_inline(self, key: Key, units: int, symbols: int, started_at: float, ended_at: float) -> None:
        """The units of one caller ran at once, in the caller's context, without being queued."""

    def ran(self, batch: Batch[Any], started_at: float, ended_at: float) -> None:
        """A batch ran; its callers have no results yet."""

    def settled(self, entry: Entry[Any]) -> None:
        """A queued caller has its results or an error, or was cancelled; called in the caller's context."""


class Observers:
    """Several observers as one."""

    def __init__(self, *observers: BatchObserver) -> None:
        self._observers = observers

    def refused(self, reason: str) -> None:
        for observer in self._observers:
            observer.refused(reason)

    def ran_inline(self, key: Key, units: int, symbols: int, started_at: float, ended_at: float) -> None:
        for observer in self._observers:
            observer.ran_inline(key, units, symbols, started_at, ended_at)

    def ran(self, batch: Batch[Any], started_at: float, ended_at: float) -> None:
        for observer in self._observers:
            observer.ran(batch, started_at, ended_at)

    def settled(self, entry: Entry[Any]) -> None:
        for observer in self._observers:
            observer.settled(entry)
