"""Joins calls to perturb that wait for the same device and want the same.

Owns the queue before each device. It must not know how bits are estimated or how a request looks on the wire.
Invariant: every caller settles exactly once; a call that came alone waits for nobody, and what gathers while
its device is busy is computed together; who has left by then is not computed; a call whose worker is lost is
placed once more, whether it was in hand or waited.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from entropyd.contract.errors import (
    DeadlineExceededError,
    EntropydError,
    OverloadedError,
)
from entropyd_server.batching.queue import Batch, BatchQueue, Entry
from entropyd_server.errors import as_error
from entropyd_server.modeling.perturbation import (
    PERTURBING,
    UNKNOWN_MODEL,
    Perturbed,
    perturb_frame,
)
from entropyd_server.modeling.work import WORKER_LOST, once_more_if_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from entropyd.contract.config import ModelConfig
    from entropyd_server.metrics import Metrics
    from entropyd_server.modeling.perturbation import Array, PerturbKey
    from entropyd_server.modeling.pool import WorkerPool
    from entropyd_server.modeling.supervisor import Exchange, WorkerSupervisor

log = logging.getLogger(__name__)

# Larger batches gain nothing, and keep the next ones waiting: about 0.1 s of work on one core.
_MAX_BATCH_SYMBOLS = 2**19
_RETRY_S = 0.1


@dataclass(frozen=True, eq=False)
class PerturbCall:
    """Units to perturb.

    Attributes:
      config: The model's.
      key: What is wanted.
      units: [units, *coding shape], in the bottleneck's dtype; uint16 bit patterns for bfloat16.
      unit_symbols: Symbols of each, once axes of length 1 are repeated.
    """

    config: ModelConfig
    key: PerturbKey
    units: Array
    unit_symbols: int


@dataclass(eq=False)
class _Caller:
    call: PerturbCall
    answered: asyncio.Future[Perturbed]
    pieces: dict[int, Perturbed] = field(default_factory=dict)

    def fail(self, error: EntropydError) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


PerturbBatch: TypeAlias = Batch[_Caller]
Exchanged: TypeAlias = "Callable[[Exchange, PerturbBatch], Awaitable[Perturbed]]"


async def exchanged(exchange: Exchange, batch: PerturbBatch) -> Perturbed:
    """What a worker makes of a batch.

    Raises:
      EntropydError: As the worker, or its supervisor.
    """
    call = batch.shares[0].entry.work.call
    pieces = [share.entry.work.call.units[share.start : share.stop] for share in batch.shares]
    units = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    answer = await exchange(perturb_frame(call.key, units, None), PERTURBING)
    if answer.kind == UNKNOWN_MODEL:
        answer = await exchange(perturb_frame(call.key, units, call.config), PERTURBING)
    return Perturbed.from_frame(answer)


class Perturber:
    """Perturbs bottlenecks on the devices of a plane.

    Args:
      plane: The devices.
      max_queue_symbols: Most symbols that may wait before one device.
      metrics: Where waits and batches are counted.
      exchanged: Has a worker perturb a batch.
    """

    def __init__(
        self,
        plane: WorkerPool,
        max_queue_symbols: int,
        metrics: Metrics,
        exchanged: Exchanged = exchanged,
    ) -> None:
        self._plane = plane
        self._lanes = {
            device: _Lane(
                plane.workers[device],
                partial(plane.ready_besides, device),
                max_queue_symbols,
                metrics,
                exchanged,
            )
            for device in plane.devices
        }

    async def perturb(self, call: PerturbCall, timeout_s: float | None) -> Perturbed:
        """Waits for the perturbed units of a call with at least one, in order.

        Raises:
          OverloadedError: If too much waits already; says when to come again.
          DeadlineExceededError: If `timeout_s` seconds pass while the call is queued.
          UnavailableError: WORKER_LOST, if two workers died in turn; DRAINING, if the server is stopping.
          LimitExceededError: If it took too long or too much memory.
        """
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s

        async def attempt() -> Perturbed:
            with self._plane.placed(call.key.model_id) as device:
                return await self._lanes[device].submit(call, deadline)

        return await once_more_if_lost(attempt)


class _Lane:
    """The queue before one device; `elsewhere` says whether another device is up."""

    def __init__(
        self,
        worker: WorkerSupervisor,
        elsewhere: Callable[[], bool],
        max_queue_symbols: int,
        metrics: Metrics,
        exchanged: Exchanged,
    ) -> None:
        self._worker = worker
        self._elsewhere = elsewhere
        self._queue: BatchQueue[_Caller] = BatchQueue(max_queue_symbols)
        self._metrics = metrics
        self._exchanged = exchanged
        self._draining: asyncio.Task[None] | None = None

    async def submit(self, call: PerturbCall, deadline: float) -> Perturbed:
        cost = max(call.unit_symbols, 1)
        if self._queue.filled >= 1:
            self._metrics.shed["queue_full"] += 1
            message = f"{self._queue.symbols} symbols wait to be perturbed, and more would be too many"
            raise OverloadedError(message, retry_after_s=_RETRY_S)
        caller = _Caller(call, asyncio.get_running_loop().create_future())
        entry = Entry(call.key, caller, len(call.units), cost, deadline)
        self._queue.append(entry, time.monotonic())
        if self._draining is None or self._draining.done():
            # In no caller's context, for it works for all of them.
            self._draining = contextvars.Context().run(asyncio.create_task, self._drain())
        try:
            return await caller.answered
        finally:
            self._queue.leave(entry)

    async def _drain(self) -> None:
        """Computes what waits, a batch at a time, until nothing does."""
        while self._queue.symbols:
            try:
                # Only once the worker is free is it decided who is computed together.
                async with self._worker.turn(only_if_ready=self._elsewhere()) as exchange:
                    batch = self._next_batch()
                    if batch is not None:
                        await self._compute(exchange, batch)
            except Exception as raised:  # mostly a lost worker: what waited for it may be placed anew
                error = as_error(raised)
                if error is not raised:
                    log.exception("calls to perturb cannot be computed")
                while (batch := self._next_batch()) is not None:
                    _fail(batch, error)

    def _next_batch(self) -> PerturbBatch | None:
        batch, expired = self._queue.next_batch(time.monotonic(), _MAX_BATCH_SYMBOLS)
        for entry in expired:
            self._metrics.shed["expired"] += 1
            entry.work.fail(DeadlineExceededError("the deadline passed while the call was queued"))
        return batch

    async def _compute(self, exchange: Exchange, batch: PerturbBatch) -> None:
        started = time.monotonic()
        figures = self._metrics.operations[batch.key.operation]
        figures.symbols += batch.symbols
        figures.batch_symbols.observe(batch.symbols)
        figures.batch_units.observe(batch.units)
        for share in batch.shares:
            if share.start == 0:
                figures.queue_wait_seconds.observe(started - share.entry.queued_at)
        try:
            self._settle(batch, await self._exchanged(exchange, batch))
        except EntropydError as error:
            _fail(batch, error)
            if error.reason == WORKER_LOST:
                raise
        except Exception as raised:
            log.exception("a batch of calls to perturb failed")
            _fail(batch, as_error(raised))
        else:
            figures.kernel_seconds.observe(time.monotonic() - started)

    @staticmethod
    def _settle(batch: PerturbBatch, answer: Perturbed) -> None:
        """Hands out the answer of a batch to its callers."""
        first = 0
        for share in batch.shares:
            caller, units = share.entry.work, share.stop - share.start
            caller.pieces[share.start] = answer[first : first + units]
            first += units
            if share.stop == share.entry.units and not caller.answered.done():
                pieces = [caller.pieces[start] for start in sorted(caller.pieces)]
                caller.answered.set_result(Perturbed.joined(pieces))


def _fail(batch: PerturbBatch, error: EntropydError) -> None:
    for share in batch.shares:
        share.entry.work.fail(error)
