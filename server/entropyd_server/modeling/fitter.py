"""Fits on the devices of a plane, in short turns.

Invariant: a worker forgets a fit when its caller leaves, however it leaves; between turns, other calls on the
device go on.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from entropyd.contract.errors import EntropydError, OverloadedError, UnavailableError
from entropyd_server.modeling.fit_frames import FITTING, FitState, advance_frame, end_frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from entropyd_server.modeling.fit_frames import FitTask
    from entropyd_server.modeling.pool import WorkerPool
    from entropyd_server.modeling.protocol import Frame
    from entropyd_server.modeling.supervisor import WorkerSupervisor

# Of those that a device has room for, one caller does not take all.
_MOST_FITS_OF_A_CALLER = 4
_RETRY_AFTER_S = 10.0
# What another call on the device may have to wait for.
_TURN_SECONDS = 0.2


class Fitter:
    """Fits priors on the devices of a plane."""

    def __init__(self, plane: WorkerPool) -> None:
        self._plane = plane
        self._fits_by_caller: Counter[str] = Counter()

    async def fit(self, task: FitTask, caller: str = "") -> AsyncGenerator[FitState, None]:
        """Yields how far the fit has come, a few times a second; last, a state that is done.

        Raises:
          InvalidConfigError: If the fit diverges.
          OverloadedError: If the caller or the device has too many fits.
          UnavailableError: WORKER_LOST, if the worker died, and the fit with it; DRAINING.
          LimitExceededError: If a turn took too long or too much memory.
        """
        fit_id = uuid.uuid4().hex
        with self._counted(caller), self._plane.placed(task.config.model_id) as device:
            worker = self._plane.workers[device]
            try:
                state = FitState.from_frame(await self._turn(worker, task.to_frame(fit_id)))
                yield state
                while not state.done:
                    # Another worker would not know this fit: there is nothing to wait for.
                    request = advance_frame(fit_id, _TURN_SECONDS)
                    answer = await self._turn(worker, request, only_if_ready=True)
                    state = FitState.from_frame(answer)
                    yield state
            finally:
                with suppress(EntropydError):  # a worker that is gone has forgotten already
                    await self._turn(worker, end_frame(fit_id), only_if_ready=True)

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

    async def _turn(self, worker: WorkerSupervisor, request: Frame, *, only_if_ready: bool = False) -> Frame:
        """One exchange, which runs to its end even if its caller leaves or the plane is drained.

        Cancelling it would kill the worker, and with it what others have there.
        """

        async def exchanged() -> Frame:
            async with worker.turn(only_if_ready=only_if_ready) as exchange:
                return await exchange(request, FITTING)

        drained = self._plane.drained
        if not drained.done():
            turn = asyncio.ensure_future(exchanged())
            # Asked for, whether or not somebody waits for it.
            turn.add_done_callback(lambda turn: None if turn.cancelled() else turn.exception())
            either: set[asyncio.Future[Any]] = {turn, drained}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                raise
            if turn.done():
                return turn.result()
        raise UnavailableError("the server is stopping", reason="DRAINING")
