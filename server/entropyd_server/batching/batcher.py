"""The asyncio shell around the batch queue.

Owns the codec threads, who waits for what, and the measured rate. It must not know what is coded: it is given
a function that codes a batch. Invariants: every caller settles exactly once, with its own result or its own
error; a batch that fails is coded again caller by caller, so that it fails only for whom it must; nothing
waits while a thread is free, but for `max_batch_delay_s`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from entropyd.contract.errors import DeadlineExceededError, OverloadedError
from entropyd_server.batching.queue import Batch, BatchQueue, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from entropyd_server.batching.queue import Key, Share
    from entropyd_server.metrics import Metrics
    from entropyd_server.vital import Vital

W = TypeVar("W")
R = TypeVar("R")

# Weight of the newest batch in the measured rate.
_NEWEST = 0.2
# This share of the queue is for all callers, the rest for those whose messages are on their way already: else
# most of what arrives while the queue fills up would be received in vain.
_NEARLY_FULL = 0.75
# Codec threads weigh a third of the others for the scheduler.
_POLITENESS = 5
# What a refused caller is told to wait at the least, and before anything was measured.
_LEAST_RETRY_S = 0.01


@dataclass(eq=False)
class _Caller(Generic[W, R]):
    """Who waits for an entry.

    Attributes:
      work: What is to be coded.
      answered: Settled once, with the results of all pieces in order.
      pieces: Results so far, by their first unit.
      units_done: Units that they hold.
    """

    work: W
    answered: asyncio.Future[list[R]]
    pieces: dict[int, R] = field(default_factory=dict)
    units_done: int = 0


class Batcher(Generic[W, R]):
    """Codes what callers submit, joined into batches.

    Args:
      queue: Where work waits.
      code: Codes a batch: `(key, [(work, start, stop), ...]) -> one result for each`. Runs on a thread or
        where the call is.
      threads: Batches that are coded at the same time.
      max_batch_symbols: Most symbols of a batch.
      inline_symbols: By operation, how much is coded where it is, at once: handing it to a thread and back
        would cost more.
      max_batch_delay_s: How long work waits for company.
      metrics: Where waits, batches and refusals are counted.
      vital: Is told if a batch can neither be handed out nor returned.
      resume: Runs a function in a turn of the event loop; called on a kernel thread.
    """

    def __init__(
        self,
        queue: BatchQueue[_Caller[W, R]],
        code: Callable[[Any, Sequence[tuple[W, int, int]]], list[R]],
        *,
        threads: int,
        max_batch_symbols: int,
        inline_symbols: Mapping[str, int],
        max_batch_delay_s: float,
        metrics: Metrics,
        vital: Vital,
        resume: Callable[[Callable[[], None]], None],
    ) -> None:
        self._queue = queue
        self._code = code
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="codec", initializer=_give_way)
        self._thread_count = self._free_threads = threads
        self._max_batch_symbols = max_batch_symbols
        self._inline_symbols = inline_symbols
        self._small_batch_symbols = min(inline_symbols.values())
        self._max_batch_delay_s = max_batch_delay_s
        self._metrics = metrics
        self._guard = vital.guard("batcher")
        self._resume = resume
        self._dispatch_planned: asyncio.Handle | None = None
        self._seconds_per_symbol = 0.0
        self._progress_at = time.monotonic()

    async def submit(
        self, key: Key, work: W, *, units: int, unit_cost: int, timeout_s: float | None
    ) -> list[R]:
        """Waits for the results of `units` coding units, in pieces, in order.

        Args:
          key: What units must have in common to be coded together.
          work: What is to be coded.
          units: Number of coding units, at least 1.
          unit_cost: Symbols of each, at least 1.
          timeout_s: How long the caller will wait; None for ever.

        Raises:
          OverloadedError: If too much waits already; says when to come again.
          DeadlineExceededError: If the time passes while queued, or would, by the measured rate.
        """
        symbols = units * unit_cost
        at_once = symbols <= self._inline_symbols[key.operation] and not self._max_batch_delay_s
        if at_once and not self._queue.symbols:
            return [self._code_at_once(key, work, units, symbols)]
        self.admit(timeout_s, most_filled=1.0)
        now = time.monotonic()
        loop = asyncio.get_running_loop()
        caller: _Caller[W, R] = _Caller(work, loop.create_future())
        deadline = float("inf") if timeout_s is None else now + timeout_s
        entry = Entry(key, caller, units, unit_cost, deadline)
        if not self._queue.symbols:
            self._progress_at = now  # it had nothing to do until now
        self._queue.append(entry, now)
        if self._dispatch_planned is None:
            # Not at once: what arrives in the same turn of the event loop is coded together.
            self._dispatch_planned = (
                loop.call_later(self._max_batch_delay_s, self._dispatch)
                if self._max_batch_delay_s
                else loop.call_soon(self._dispatch)
            )
        try:
            return await caller.answered
        finally:
            self._queue.leave(entry)

    def admit(self, timeout_s: float | None, most_filled: float = _NEARLY_FULL) -> None:
        """Whether a caller is to send what it would submit; returns if so.

        Args:
          timeout_s: How long the caller will wait; None for ever.
          most_filled: The share of the queue from which on nobody is.

        Raises:
          OverloadedError: If too much waits already; says when to come again.
          DeadlineExceededError: If the time would pass while it is queued, by the measured rate.
        """
        wait_s = self._queue.symbols * self._seconds_per_symbol / self._thread_count
        if self._queue.filled >= most_filled:
            self._metrics.shed["queue_full"] += 1
            raise OverloadedError(
                f"{self._queue.symbols} symbols are queued, and more would be too many",
                retry_after_s=max(wait_s, _LEAST_RETRY_S),
            )
        if timeout_s is not None and wait_s > timeout_s:
            self._metrics.shed["deadline"] += 1
            raise DeadlineExceededError(
                f"{self._queue.symbols} symbols are queued, about {wait_s:.3f} s of work; "
                f"the call has {timeout_s:.3f} s"
            )

    @property
    def queue_symbols(self) -> int:
        """Symbols that wait."""
        return self._queue.symbols

    @property
    def stalled_s(self) -> float:
        """Seconds since a batch ended, while there is work; 0 without any."""
        busy = self._queue.symbols or self._free_threads < self._thread_count
        return time.monotonic() - self._progress_at if busy else 0.0

    async def close(self) -> None:
        """Waits for the batches in hand."""
        await asyncio.to_thread(self._threads.shutdown)

    def _code_at_once(self, key: Key, work: W, units: int, symbols: int) -> R:
        """Codes where it is what costs less than to queue it."""
        started = time.perf_counter()
        (result,) = self._code(key, [(work, 0, units)])
        figures = self._metrics.operations[key.operation]
        figures.queue_wait_seconds.observe(0.0)
        figures.batch_symbols.observe(symbols)
        figures.batch_units.observe(units)
        figures.kernel_seconds.observe(time.perf_counter() - started)
        return result

    def _dispatch(self) -> None:
        with self._guard:
            self._hand_out()

    def _hand_out(self) -> None:
        self._dispatch_planned = None
        inline = self._queue.symbols <= self._small_batch_symbols
        while self._queue.symbols and (inline or self._free_threads):
            batch, expired = self._queue.next_batch(time.monotonic(), self._fair_share())
            for entry in expired:
                self._metrics.shed["expired"] += 1
                _fail(entry.work, DeadlineExceededError("the deadline passed while the call was queued"))
            if batch is None:
                return
            self._observe(batch)
            if inline:
                self._settle(batch, *self._run(batch))
            else:
                self._free_threads -= 1
                self._threads.submit(self._run_on_thread, batch)

    def _fair_share(self) -> int:
        """What one free thread should take: its part of what waits, so that no other is left without."""
        share = -(-self._queue.symbols // max(self._free_threads, 1))
        return min(max(share, self._small_batch_symbols), self._max_batch_symbols)

    def _observe(self, batch: Batch[_Caller[W, R]]) -> None:
        now = time.monotonic()
        figures = self._metrics.operations[batch.key.operation]
        figures.batch_symbols.observe(batch.symbols)
        figures.batch_units.observe(batch.units)
        for share in batch.shares:
            if share.start == 0:
                figures.queue_wait_seconds.observe(now - share.entry.queued_at)

    def _run_on_thread(self, batch: Batch[_Caller[W, R]]) -> None:
        with self._guard:
            outcomes, seconds = self._run(batch)
            self._resume(partial(self._finish, batch, outcomes, seconds))

    def _finish(self, batch: Batch[_Caller[W, R]], outcomes: list[R | Exception], seconds: float) -> None:
        with self._guard:
            self._free_threads += 1
            self._settle(batch, outcomes, seconds)
            if self._dispatch_planned is None:
                self._hand_out()

    def _run(self, batch: Batch[_Caller[W, R]]) -> tuple[list[R | Exception], float]:
        """Codes a batch; the result or the error of each share, and the seconds that it took."""
        started = time.perf_counter()
        try:
            outcomes = self._code_shares(batch.key, batch.shares)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the others their answer
            outcomes = [error] if len(batch.shares) == 1 else self._run_alone(batch)
        return outcomes, time.perf_counter() - started

    def _run_alone(self, batch: Batch[_Caller[W, R]]) -> list[R | Exception]:
        outcomes: list[R | Exception] = []
        for share in batch.shares:
            try:
                outcomes += self._code_shares(batch.key, [share])
            except Exception as error:  # noqa: BLE001 - see above
                outcomes.append(error)
        return outcomes

    def _code_shares(self, key: Key, shares: Sequence[Share[_Caller[W, R]]]) -> list[R | Exception]:
        return list(self._code(key, [(share.entry.work.work, share.start, share.stop) for share in shares]))

    def _settle(self, batch: Batch[_Caller[W, R]], outcomes: list[R | Exception], seconds: float) -> None:
        self._progress_at = time.monotonic()
        self._metrics.operations[batch.key.operation].kernel_seconds.observe(seconds)
        # A batch of a few symbols is all overhead; taken for a rate, it would have large calls wait for ever.
        newest = seconds / max(batch.symbols, self._small_batch_symbols)
        self._seconds_per_symbol += (
            _NEWEST * (newest - self._seconds_per_symbol) if self._seconds_per_symbol else newest
        )
        for share, outcome in zip(batch.shares, outcomes, strict=True):
            caller = share.entry.work
            if isinstance(outcome, Exception):
                _fail(caller, outcome)
                continue
            caller.pieces[share.start] = outcome
            caller.units_done += share.stop - share.start
            if caller.units_done == share.entry.units and not caller.answered.done():
                caller.answered.set_result([caller.pieces[start] for start in sorted(caller.pieces)])


def _give_way() -> None:
    """Lets those who take and refuse calls go first where the cores do not suffice for all.

    Else refusals queue behind the coding that they are to protect.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.nice(_POLITENESS)


def _fail(caller: _Caller[W, R], error: Exception) -> None:
    if not caller.answered.done():
        caller.answered.set_exception(error)
