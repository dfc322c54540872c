"""The workers that build tables, and which build comes next.

Builds of different callers take turns, in the order in which the callers came. Invariant: of several workers,
one is always left to builds that are not long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from entropyd.contract.errors import UnavailableError
from entropyd_server.modeling.devices import BUILDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from entropyd_server.modeling.supervisor import Exchange, WorkerSupervisor
    from entropyd_server.vital import Vital


@dataclass(eq=False)
class _Build:
    """A build that is queued; `worker` is the one that it is given."""

    long: bool
    worker: asyncio.Future[WorkerSupervisor] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class BuilderPool:
    """Hands out workers to builds, each when it is ready.

    Attributes:
      device: Names all of them in traces.

    Args:
      workers: At least one. The first is started by `start`, each of the others when a build waits.
    """

    def __init__(self, workers: Sequence[WorkerSupervisor]) -> None:
        self.device = BUILDER
        self._workers = tuple(workers)
        self._unstarted = deque(workers)
        self._most_long = max(len(workers) - 1, 1)
        self._long = 0
        self._idle: list[WorkerSupervisor] = []
        # By caller, in the order of their turns.
        self._queued: dict[str, list[_Build]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, vital: Vital) -> None:
        """Begins starting the first worker; `wait_ready` waits for it. `vital` guards the supervisors."""
        self._vital = vital
        self._start_another()

    async def wait_ready(self) -> None:
        """Waits until the first worker answers.

        Raises:
          UnavailableError: DRAINING, if the pool is closed instead.
        """
        await self._workers[0].wait_ready()

    async def close(self) -> None:
        """Ends the workers at once; builds, queued and in flight, fail with DRAINING, as do later ones."""
        self._closed = True
        for build in (build for builds in self._queued.values() for build in builds):
            if not build.worker.done():
                build.worker.set_exception(_draining())
        self._queued.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(worker.close() for worker in self._workers))

    @asynccontextmanager
    async def turn(self, caller: str = "", *, long: bool = False) -> AsyncIterator[Exchange]:
        """Waits for the caller's turn, and has a worker to itself inside the `async with` block.

        Args:
          caller: Whose build it is.
          long: Whether it may take long.

        Yields:
          See `WorkerSupervisor.turn`.

        Raises:
          UnavailableError: DRAINING, if the pool is closed.
        """
        worker = await self._worker(caller, _Build(long))
        try:
            async with worker.turn() as exchange:
                yield exchange
        finally:
            self._long -= long
            self._put_back(worker)

    async def _worker(self, caller: str, build: _Build) -> WorkerSupervisor:
        if self._closed:
            raise _draining()
        self._queued.setdefault(caller, []).append(build)
        self._hand_out()
        try:
            return await build.worker
        except asyncio.CancelledError:
            if build.worker.cancelled():
                self._remove(caller, build)
            else:  # it came in the same moment
                self._long -= build.long
                self._put_back(build.worker.result())
            raise

    def _hand_out(self) -> None:
        """Gives idle workers to the builds that come next, and starts another worker if some are left."""
        while (coming := self._next()) is not None:
            if not self._idle:
                self._start_another()
                return
            caller, build = coming
            self._remove(caller, build)
            if caller in self._queued:
                self._queued[caller] = self._queued.pop(caller)  # behind the other callers
            self._long += build.long
            build.worker.set_result(self._idle.pop(0))

    def _next(self) -> tuple[str, _Build] | None:
        for caller, builds in self._queued.items():
            for build in builds:
                cancelled = build.worker.done()  # and not yet taken out
                if not cancelled and (not build.long or self._long < self._most_long):
                    return caller, build
        return None

    def _remove(self, caller: str, build: _Build) -> None:
        builds = self._queued.get(caller, [])
        if build in builds:
            builds.remove(build)
            if not builds:
                del self._queued[caller]

    def _put_back(self, worker: WorkerSupervisor) -> None:
        """Takes a worker back: at once, or when its successor is ready if it was ended."""
        if worker.ready:
            self._idle.append(worker)
            self._hand_out()
        elif not self._closed:
            self._spawn(worker, start=False)

    def _start_another(self) -> None:
        if self._unstarted and not self._closed:
            self._spawn(self._unstarted.popleft(), start=True)

    def _spawn(self, worker: WorkerSupervisor, *, start: bool) -> None:
        async def expect() -> None:
            if start:
                self._vital.watch("supervisor of a builder", await worker.start())
            await worker.wait_ready()
            self._idle.append(worker)
            self._hand_out()

        task = asyncio.create_task(expect())
        self._tasks.add(task)
        task.add_done_callback(self._expected)

    def _expected(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # DRAINING: whoever needed the worker was told


def _draining() -> UnavailableError:
    return UnavailableError("the server is stopping", reason="DRAINING")
