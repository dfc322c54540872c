"""Runs the operations of many callers in batches, on threads.

Invariants: every caller settles exactly once, with its own results or its own error; a batch that fails is
run again caller by caller, so that only those fail that must; no unit is queued while a thread is idle, other
than for `max_batch_delay_s`.
"""

from __future__ import annotations

import os
import sys
import time
from asyncio import Handle, get_running_loop, to_thread
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from entropyd.contract.errors import DeadlineExceededError
from entropyd_server.batching.lane import Caller, Lane, parts, settle
from entropyd_server.batching.observer import BatchObserver
from entropyd_server.batching.queue import Batch, BatchQueue, Key, Operation, Share
from entropyd_server.vital import Vital

W = TypeVar("W")
R = TypeVar("R")

# Weight of the newest batch in the measured rate.
_NEWEST = 0.2
# Calls are admitted up to this share of the queue; the rest is for calls whose messages are being received.
# Without it, most messages that arrive while the queue fills would be received in vain.
_NEARLY_FULL = 0.75
# The niceness of kernel threads: they weigh a third of the others for the scheduler.
_NICENESS = 5
# The least time to retry after a refusal, also before any rate is measured.
_LEAST_RETRY_S = 0.01


class Batcher(Generic[W, R]):
    """Runs the units that callers submit, in batches of one key.

    Args:
      max_queue_symbols: The queue is full from this many symbols on.
      max_batch_symbols: Most symbols of a batch.
      max_batch_delay_s: How long a batch waits for more units.
      inline_symbols: By operation, the most symbols that run on the caller's thread, at once: handing them to
        a thread would cost more.
      threads: Batches that run at the same time.
      resume: Runs a function in a turn of the event loop; called on a kernel thread.
      vital: Ends the server if batches can neither be started nor finished.
    """

    def __init__(
        self,
        *,
        max_queue_symbols: int,
        max_batch_symbols: int,
        max_batch_delay_s: float,
        inline_symbols: Mapping[Operation, int],
        threads: int,
        observer: BatchObserver,
        resume: Callable[[Callable[[], None]], object],
        vital: Vital,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue: BatchQueue[Caller[W, R]] = BatchQueue(max_queue_symbols)
        self._lane: Lane[W, R] = Lane(self._queue, observer, clock, self._plan_dispatch)
        self._max_batch_symbols = max_batch_symbols
        self._max_batch_delay_s = max_batch_delay_s
        self._inline_symbols = inline_symbols
        self._small_batch_symbols = min(inline_symbols.values())
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="codec", initializer=_lower_priority)
        self._thread_count = self._idle_threads = threads
        self._observer = observer
        self._resume = resume
        self._guard = vital.guard("batcher")
        self._clock = clock
        self._dispatch_planned: Handle | None = None
        self._seconds_per_symbol = 0.0
        self._progress_at = clock()

    async def submit(
        self, key: Key, work: W, *, units: int, unit_cost: int, timeout_s: float | None
    ) -> list[R]:
        """Waits for the results of `units` coding units: one for each part of a batch, in order.

        Args:
          key: What units must have in common to share a batch.
          work: What the key's operation takes.
          units: Number of coding units, at least 1.
          unit_cost: Symbols of each, at least 1.
          timeout_s: How long the caller will wait; None without limit.

        Raises:
          OverloadedError: If the queue is full; says when to retry.
          DeadlineExceededError: If the time passes while queued, or would by the measured rate.
        """
        symbols = units * unit_cost
        inline = symbols <= self._inline_symbols[key.operation] and not self._max_batch_delay_s
        if inline and not self._queue.symbols:
            return [self._run_inline(key, work, units, symbols)]
        self.admit(timeout_s, most_filled=1.0)
        now = self._clock()
        if not self._busy:
            self._progress_at = now  # there was nothing to do until now
        deadline = float("inf") if timeout_s is None else now + timeout_s
        return await self._lane.submit(key, work, units=units, unit_cost=unit_cost, deadline=deadline)

    def admit(self, timeout_s: float | None, most_filled: float = _NEARLY_FULL) -> None:
        """Raises if a caller had better not send its message.

        Nobody is admitted while the share `most_filled` of the queue is filled.

        Raises:
          OverloadedError: If the queue is full; says when to retry.
          DeadlineExceededError: If the time would pass while queued, by the measured rate.
        """
        wait_s = self._queue.symbols * self._seconds_per_symbol / self._thread_count
        self._lane.check_room(max(wait_s, _LEAST_RETRY_S), most_filled)
        if timeout_s is not None and wait_s > timeout_s:
            self._observer.refused("deadline")
            raise DeadlineExceededError(
                f"{self._queue.symbols} symbols are queued, about {wait_s:.3f} s of work; "
                f"the call has {timeout_s:.3f} s"
            )

    @property
    def queue_symbols(self) -> int:
        return self._queue.symbols

    @property
    def stalled_s(self) -> float:
        """Seconds since a batch ended, while units are queued or running; otherwise 0."""
        return self._clock() - self._progress_at if self._busy else 0.0

    @property
    def _busy(self) -> bool:
        return bool(self._queue.symbols) or self._idle_threads < self._thread_count

    async def close(self) -> None:
        await to_thread(self._threads.shutdown)

    def _run_inline(self, key: Key, work: W, units: int, symbols: int) -> R:
        started_at = self._clock()
        result: R
        (result,) = key.operation.run([(work, 0, units)])
        self._observer.ran_inline(key, units, symbols, started_at, self._clock())
        return result

    def _plan_dispatch(self) -> None:
        """Dispatches after the delay, or at the end of this turn so that all its callers share batches."""
        if self._dispatch_planned is not None:
            return
        loop = get_running_loop()
        self._dispatch_planned = (
            loop.call_later(self._max_batch_delay_s, self._dispatch)
            if self._max_batch_delay_s
            else loop.call_soon(self._dispatch)
        )

    def _dispatch(self) -> None:
        with self._guard:
            self._start_batches()

    def _start_batches(self) -> None:
        """Starts batches while units are queued and threads are idle; runs few units at once, here."""
        self._dispatch_planned = None
        inline = self._queue.symbols <= self._small_batch_symbols
        while self._queue.symbols and (inline or self._idle_threads):
            batch = self._lane.next_batch(self._fair_share())
            if batch is None:
                return
            if inline:
                started_at = self._clock()
                self._settle(batch, self._run(batch.shares), started_at, self._clock())
            else:
                self._idle_threads -= 1
                self._threads.submit(self._run_on_thread, batch)

    def _fair_share(self) -> int:
        """The symbols that one idle thread takes, so that the other idle threads have work too."""
        share = -(-self._queue.symbols // max(self._idle_threads, 1))
        return min(max(share, self._small_batch_symbols), self._max_batch_symbols)

    def _run_on_thread(self, batch: Batch[Caller[W, R]]) -> None:
        with self._guard:
            started_at = self._clock()
            outcomes = self._run(batch.shares)
            self._resume(partial(self._finish, batch, outcomes, started_at, self._clock()))

    def _finish(
        self, batch: Batch[Caller[W, R]], outcomes: list[R | Exception], started_at: float, ended_at: float
    ) -> None:
        with self._guard:
            self._idle_threads += 1
            self._settle(batch, outcomes, started_at, ended_at)
            if self._dispatch_planned is None:
                self._start_batches()

    def _run(self, shares: Sequence[Share[Caller[W, R]]]) -> list[R | Exception]:
        try:
            return self._run_together(shares)
        except Exception as error:  # noqa: BLE001 - it must not fail the other callers
            if len(shares) == 1:
                return [error]
        return [outcome for share in shares for outcome in self._run([share])]

    def _run_together(self, shares: Sequence[Share[Caller[W, R]]]) -> list[R | Exception]:
        return list(shares[0].entry.key.operation.run(parts(shares)))

    def _settle(
        self, batch: Batch[Caller[W, R]], outcomes: list[R | Exception], started_at: float, ended_at: float
    ) -> None:
        self._progress_at = self._clock()
        self._observer.ran(batch, started_at, ended_at)
        # The time of a tiny batch is all overhead; as a rate, it would have large calls refused for ever.
        newest = (ended_at - started_at) / max(batch.symbols, self._small_batch_symbols)
        self._seconds_per_symbol += (
            _NEWEST * (newest - self._seconds_per_symbol) if self._seconds_per_symbol else newest
        )
        settle(batch.shares, outcomes)


def _lower_priority() -> None:
    """Lowers the priority of a kernel thread, so that refusals do not wait for the work they protect."""
    if sys.platform == "linux":  # where every thread has a priority of its own
        os.nice(_NICENESS)
