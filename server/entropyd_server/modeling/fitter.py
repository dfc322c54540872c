"""Fits priors on the devices of a worker pool, in short steps between which other calls on the device run.

Invariant: a worker forgets a fit when it ends, fails or is cancelled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from entropyd.contract.errors import EntropydError, OverloadedError
from entropyd_server.modeling.fit_frames import FITTING, FitState, FitTask, advance_frame, end_frame
from entropyd_server.modeling.leases import LeaseObserver, observed
from entropyd_server.modeling.pool import WorkerPool
from entropyd_server.modeling.protocol import Frame
from entropyd_server.modeling.unavailable import stopping

_MOST_FITS_OF_A_CALLER = 4
_RETRY_AFTER_S = 10.0
# How long another call on the device may have to wait.
_STEP_SECONDS = 0.2


class Fitter:
    def __init__(self, pool: WorkerPool, on_lease: LeaseObserver | None = None) -> None:
        self._pool = pool
        self._on_lease = on_lease
        self._fits_by_caller: Counter[str] = Counter()

    async def fit(self, task: FitTask, caller: str = "") -> AsyncGenerator[FitState, None]:
        """Yields the state of the fit a few times a second, until it is done.

        Raises:
          InvalidConfigError: If the fit diverges.
          OverloadedError: If the caller or the device has too many fits.
          UnavailableError: WORKER_LOST, if the worker died, and the fit with it; DRAINING.
          LimitExceededError: If a step took too long or too much memory.
        """
        fit_id = uuid.uuid4().hex
        with self._counted(caller), self._pool.placed(task.config.model_id) as device:
            try:
                state = FitState.from_frame(await self._step(device, task.to_frame(fit_id)))
                yield state
                while not state.done:
                    # Only this worker has the fit, so there is no use in waiting for its successor.
                    request = advance_frame(fit_id, _STEP_SECONDS)
                    response = await self._step(device, request, only_if_ready=True)
                    state = FitState.from_frame(response)
                    yield state
            finally:
                with suppress(EntropydError):  # a worker that is gone has no fits
                    await self._step(device, end_frame(fit_id), only_if_ready=True)

    @contextmanager
    def _counted(self, caller: str) -> Iterator[None]:
        if self._fits_by_caller[caller] >= _MOST_FITS_OF_A_CALLER:
            message = f"{_MOST_FITS_OF_A_CALLER} fits of this caller are running already"
            raise OverloadedError(message, retry_after_s=_RETRY_AFTER_S)
        self._fits_by_caller[caller] += 1
        try:
            yield
        finally:
            self._fits_by_caller[caller] -= 1
            if not self._fits_by_caller[caller]:
                del self._fits_by_caller[caller]

    async def _step(self, device: str, request: Frame, *, only_if_ready: bool = False) -> Frame:
        """Exchanges frames with a worker, to the end even if the caller is cancelled or the pool is drained.

        Cancelling it would kill the worker, and with it the fits of others.
        """

        async def exchanged() -> Frame:
            lease = self._pool.workers[device].lease(only_if_ready=only_if_ready)
            async with observed(lease, FITTING, device, self._on_lease) as exchange:
                return await exchange(request, FITTING)

        drained = self._pool.drained
        if not drained.done():
            step = asyncio.ensure_future(exchanged())
            # Marks an error as retrieved; else asyncio logs it after a cancellation.
            step.add_done_callback(lambda step: None if step.cancelled() else step.exception())
            either: set[asyncio.Future[Any]] = {step, drained}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                raise
            if step.done():
                return step.result()
        raise stopping()
