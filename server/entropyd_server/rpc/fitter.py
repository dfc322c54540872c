"""Fits on the devices of a plane, in short turns.

Owns the order of turns of one fit. It must not know messages or how a prior is fitted. Invariant: a worker
forgets a fit when its caller leaves, however it leaves; between turns, other calls on the device go on.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from entropyd.contract.errors import EntropydError
from entropyd_server.modeling.fit_frames import FITTING, FitState, advance_frame, end_frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from entropyd_server.modeling.fit_frames import FitTask
    from entropyd_server.modeling.plane import ModelingPlane
    from entropyd_server.modeling.protocol import Frame
    from entropyd_server.modeling.supervisor import WorkerSupervisor

# What another call on the device may have to wait for.
_TURN_SECONDS = 0.2


class Fitter:
    """Fits priors on the devices of a plane."""

    def __init__(self, plane: ModelingPlane) -> None:
        self._plane = plane

    async def fit(self, task: FitTask) -> AsyncGenerator[FitState, None]:
        """Yields how far the fit has come, a few times a second; last, a state that is done.

        Raises:
          InvalidConfigError: If the fit diverges.
          OverloadedError: If the device has too many fits.
          UnavailableError: WORKER_LOST, if the worker died, and the fit with it; DRAINING.
          LimitExceededError: If a turn took too long or too much memory.
        """
        fit_id = uuid.uuid4().hex
        with self._plane.placed(task.config.model_id) as device:
            worker = self._plane.workers[device]
            try:
                state = FitState.from_frame(await _turn(worker, task.to_frame(fit_id)))
                yield state
                while not state.done:
                    # Another worker would not know this fit: there is nothing to wait for.
                    answer = await _turn(worker, advance_frame(fit_id, _TURN_SECONDS), only_if_ready=True)
                    state = FitState.from_frame(answer)
                    yield state
            finally:
                with suppress(EntropydError):  # a worker that is gone has forgotten already
                    await _turn(worker, end_frame(fit_id), only_if_ready=True)


async def _turn(worker: WorkerSupervisor, request: Frame, *, only_if_ready: bool = False) -> Frame:
    """One exchange, which runs to its end even if its caller leaves.

    Cancelling it would kill the worker, and with it what others have there.
    """

    async def exchanged() -> Frame:
        async with worker.turn(only_if_ready=only_if_ready) as exchange:
            return await exchange(request, FITTING)

    turn = asyncio.ensure_future(exchanged())
    try:
        return await asyncio.shield(turn)
    except asyncio.CancelledError:
        await asyncio.wait({turn})
        raise
