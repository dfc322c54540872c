"""A batch queue with callers that await their results.

Invariants: every caller settles exactly once, with the results of all its units or with one error; a caller
that expired or was cancelled is in no further batch.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from entropyd.contract.errors import DeadlineExceededError, OverloadedError
from entropyd_server.batching.observer import BatchObserver
from entropyd_server.batching.queue import Batch, BatchQueue, Entry, Key, Share

W = TypeVar("W")
R = TypeVar("R")


@dataclass(eq=False)
class Caller(Generic[W, R]):
    """The caller of an entry.

    Attributes:
      work: What the operation takes.
      outcome: Set once: the results of all units, in order, or an error.
      results: Results so far, by their first unit.
      units_done: Units of these results.
    """

    work: W
    outcome: asyncio.Future[list[R]]
    results: dict[int, R] = field(default_factory=dict)
    units_done: int = 0

    def fail(self, error: Exception) -> None:
        """Settles with an error, unless it has settled."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class Lane(Generic[W, R]):
    """Callers in one queue; `wake` is called after one was queued, to have batches taken."""

    def __init__(
        self,
        queue: BatchQueue[Caller[W, R]],
        observer: BatchObserver,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._observer = observer
        self._clock = clock
        self._wake = wake

    def check_room(self, retry_after_s: float, most_filled: float = 1.0) -> None:
        """Raises OverloadedError if the queue is filled to this share or more."""
        if self._queue.filled >= most_filled:
            self._observer.refused("queue_full")
            message = f"{self._queue.symbols} symbols are queued, and more would be too many"
            raise OverloadedError(message, retry_after_s=retry_after_s)

    async def submit(self, key: Key, work: W, *, units: int, unit_cost: int, deadline: float) -> list[R]:
        """Queues units and waits for their results, one for each part of a batch, in order.

        Raises:
          DeadlineExceededError: If the deadline passes while they are queued.
          Exception: Whatever the operation raises for them.
        """
        caller: Caller[W, R] = Caller(work, asyncio.get_running_loop().create_future())
        entry = Entry(key, caller, units, unit_cost, deadline)
        self._queue.append(entry, self._clock())
        self._wake()
        try:
            return await caller.outcome
        finally:
            self._queue.remove(entry)
            self._observer.settled(entry)

    def next_batch(self, max_symbols: int) -> Batch[Caller[W, R]] | None:
        """Takes the next batch, None if no unit is queued; fails the callers whose deadlines passed."""
        batch, expired = self._queue.next_batch(self._clock(), max_symbols)
        for entry in expired:
            self._observer.refused("expired")
            entry.work.fail(DeadlineExceededError("the deadline passed while the call was queued"))
        return batch

    def fail_all(self, error: Exception) -> None:
        while (batch := self.next_batch(sys.maxsize)) is not None:
            settle(batch.shares, [error] * len(batch.shares))


def parts(shares: Iterable[Share[Caller[W, R]]]) -> list[tuple[W, int, int]]:
    """What an operation takes: (work, start, stop) of each share."""
    return [(share.entry.work.work, share.start, share.stop) for share in shares]


def settle(shares: Sequence[Share[Caller[W, R]]], outcomes: Sequence[R | Exception]) -> None:
    """Gives callers the outcomes of their shares; a caller settles with its last one or its first error."""
    for share, outcome in zip(shares, outcomes, strict=True):
        caller = share.entry.work
        if isinstance(outcome, Exception):
            caller.fail(outcome)
            continue
        caller.results[share.start] = outcome
        caller.units_done += share.stop - share.start
        if caller.units_done == share.entry.units and not caller.outcome.done():
            caller.outcome.set_result([caller.results[start] for start in sorted(caller.results)])
