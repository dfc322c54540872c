"""Laws of fits: each caller has a bounded number, and none outlives the drain."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from entropyd import OverloadedError, UnavailableError, UniversalBatchedConfig, priors
from entropyd_server.modeling import fitter
from entropyd_server.modeling.fit_frames import FIT_END, FIT_START, FitState, FitTask
from entropyd_server.modeling.fitter import Fitter
from entropyd_server.modeling.protocol import Frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from entropyd_server.modeling.limits import Work
    from entropyd_server.modeling.pool import WorkerPool

CONFIG = UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, 1.0), coding_rank=0)
TASK = FitTask(CONFIG, np.zeros((1, 1), np.float32), 100, 0.1)


class Pool:
    """A device whose fits begin at once and go on until they are let."""

    def __init__(self) -> None:
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.go = asyncio.Event()
        self.kinds: list[str] = []
        self.workers = {"cpu": self}

    @contextmanager
    def placed(self, model_id: str) -> Iterator[str]:
        yield "cpu"

    @asynccontextmanager
    async def lease(self, *, only_if_ready: bool = False) -> AsyncIterator[Any]:
        yield self.exchange

    async def exchange(self, request: Frame, work: Work) -> Frame:
        self.kinds.append(request.kind)
        if request.kind == FIT_END:
            return Frame(FIT_END)
        if request.kind != FIT_START:
            await self.go.wait()
        return FitState(1, 1.0, 0.0, request.kind != FIT_START, CONFIG.prior).to_frame(CONFIG)


async def ends(fits: Fitter, caller: str) -> FitState:
    """The last state of a fit."""
    return [state async for state in fits.fit(TASK, caller)][-1]


async def until(condition: Callable[[], object]) -> None:
    """Lets tasks run until they have come so far; a test that waits too long has failed."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0)


def fits_on(pool: Pool) -> Fitter:
    return Fitter(cast("WorkerPool", pool))


def test_a_caller_has_a_bounded_number_of_fits_and_others_have_theirs() -> None:
    async def scenario() -> None:
        pool = Pool()
        fits = fits_on(pool)
        running = [asyncio.create_task(ends(fits, "a")) for _ in range(fitter._MOST_FITS_OF_A_CALLER)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as caught:
            await ends(fits, "a")
        assert caught.value.retry_after_s
        running.append(asyncio.create_task(ends(fits, "b")))
        pool.go.set()
        assert all(state.done for state in await asyncio.gather(*running))
        assert (await ends(fits, "a")).done

    asyncio.run(scenario())


def test_a_drain_ends_fits_at_once_and_lets_the_turn_in_flight_end() -> None:
    async def scenario() -> None:
        pool = Pool()
        fits = fits_on(pool)
        running = asyncio.create_task(ends(fits, "a"))
        await until(lambda: len(pool.kinds) == 2)
        pool.drained.set_result(None)
        for _ in range(2):  # the one that runs, and one that comes later
            with pytest.raises(UnavailableError) as caught:
                await running
            assert caught.value.reason == "DRAINING"
            running = asyncio.create_task(ends(fits, "a"))
        with suppress(UnavailableError):
            await running
        pool.go.set()

    asyncio.run(scenario())


def test_a_fit_whose_caller_leaves_is_forgotten_by_the_worker_after_its_turn() -> None:
    async def scenario() -> None:
        pool = Pool()
        running = asyncio.create_task(ends(fits_on(pool), "a"))
        await until(lambda: len(pool.kinds) == 2)
        running.cancel()
        await asyncio.sleep(0)
        assert pool.kinds[-1] != FIT_END
        pool.go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: pool.kinds[-1] == FIT_END)

    asyncio.run(scenario())
