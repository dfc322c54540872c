"""Perturbs bottlenecks on the devices of a worker pool; what is queued for a busy device is batched.

Invariants: every caller settles exactly once; a call to an idle device runs at once; a call whose worker is
lost is placed on a device once more, whether it was queued or in flight.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from functools import partial

from entropyd.contract.errors import EntropydError
from entropyd_server.batching.lane import Caller, Lane, parts, settle
from entropyd_server.batching.observer import BatchObserver
from entropyd_server.batching.queue import Batch, BatchQueue
from entropyd_server.errors import as_error
from entropyd_server.modeling.perturbation import PerturbCall, Perturbed
from entropyd_server.modeling.pool import WorkerPool
from entropyd_server.modeling.supervisor import Exchange, WorkerSupervisor
from entropyd_server.modeling.unavailable import WORKER_LOST, retry_if_lost

log = logging.getLogger(__name__)

# About 0.1 s of work on one core. Larger batches gain nothing, and delay the next ones.
_MAX_BATCH_SYMBOLS = 2**19
_RETRY_S = 0.1


class Perturber:
    """Perturbs bottlenecks on the devices of a pool; each queues at most `max_queue_symbols`."""

    def __init__(self, pool: WorkerPool, max_queue_symbols: int, observer: BatchObserver) -> None:
        self._pool = pool
        self._devices = {
            name: _Device(pool.workers[name], partial(pool.ready_besides, name), max_queue_symbols, observer)
            for name in pool.devices
        }

    async def perturb(self, call: PerturbCall, timeout_s: float | None) -> Perturbed:
        """Returns the perturbed units of a call with at least one, in order.

        Raises:
          OverloadedError: If the queue is full; says when to retry.
          DeadlineExceededError: If `timeout_s` seconds pass while the call is queued.
          UnavailableError: WORKER_LOST, if two workers died in a row; DRAINING, if the server is stopping.
          LimitExceededError: If it took too long or too much memory.
        """
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s

        async def attempt() -> list[Perturbed]:
            with self._pool.placed(call.key.model_id) as name:
                return await self._devices[name].submit(call, deadline)

        return Perturbed.join(await retry_if_lost(attempt))


class _Device:
    """One device and its queue; `ready_elsewhere` says whether the worker of another device is ready."""

    def __init__(
        self,
        worker: WorkerSupervisor,
        ready_elsewhere: Callable[[], bool],
        max_queue_symbols: int,
        observer: BatchObserver,
    ) -> None:
        self._worker = worker
        self._ready_elsewhere = ready_elsewhere
        self._observer = observer
        self._queue: BatchQueue[Caller[PerturbCall, Perturbed]] = BatchQueue(max_queue_symbols)
        self._lane = Lane(self._queue, observer, time.monotonic, self._wake)
        self._running: asyncio.Task[None] | None = None

    async def submit(self, call: PerturbCall, deadline: float) -> list[Perturbed]:
        self._lane.check_room(_RETRY_S)
        units, unit_cost = len(call.units), max(call.unit_symbols, 1)
        return await self._lane.submit(call.key, call, units=units, unit_cost=unit_cost, deadline=deadline)

    def _wake(self) -> None:
        if self._running is None or self._running.done():
            # In an empty context: the task works for all callers, not for the one that happens to start it.
            self._running = contextvars.Context().run(asyncio.create_task, self._run_queued())

    async def _run_queued(self) -> None:
        """Runs one batch after the other until no unit is queued."""
        while self._queue.symbols:
            try:
                # Batches are taken only when the worker is free, so that they are as large as possible.
                async with self._worker.lease(only_if_ready=self._ready_elsewhere()) as exchange:
                    batch = self._lane.next_batch(_MAX_BATCH_SYMBOLS)
                    if batch is not None:
                        await self._run(batch, exchange)
            except Exception as raised:  # mostly a lost worker; the queued calls may be placed again
                error = as_error(raised)
                if error is not raised:
                    log.exception("queued Perturb calls failed")
                self._lane.fail_all(error)

    async def _run(self, batch: Batch[Caller[PerturbCall, Perturbed]], exchange: Exchange) -> None:
        started_at = time.monotonic()
        outcomes: list[Perturbed] | list[EntropydError]
        try:
            outcomes = await batch.key.operation.run(parts(batch.shares), exchange)
        except Exception as raised:
            error = as_error(raised)
            if error is not raised:
                log.exception("a batch of Perturb calls failed")
            outcomes = [error] * len(batch.shares)
        self._observer.ran(batch, started_at, time.monotonic())
        settle(batch.shares, outcomes)
        if isinstance(outcomes[0], EntropydError) and outcomes[0].reason == WORKER_LOST:
            raise outcomes[0]
