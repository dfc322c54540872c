"""Leases the workers that build tables to builds; the builds of different callers alternate.

Invariant: with several workers, one is never leased to a long build.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from entropyd_server.modeling.supervisor import Exchange, WorkerSupervisor
from entropyd_server.modeling.unavailable import stopping
from entropyd_server.vital import Vital


@dataclass(eq=False)
class _Build:
    """A queued build, and the worker that is assigned to it."""

    long: bool
    worker: asyncio.Future[WorkerSupervisor] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class BuilderPool:
    """Leases each worker to one build at a time.

    Args:
      workers: At least one. `start` starts the first; each of the others is started once no worker is idle.
    """

    def __init__(self, workers: Sequence[WorkerSupervisor]) -> None:
        self._workers = tuple(workers)
        self._unstarted = deque(workers)
        self._most_long = max(len(workers) - 1, 1)
        self._long = 0
        self._idle: list[WorkerSupervisor] = []
        # By caller; the first caller is next.
        self._queued: dict[str, list[_Build]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, vital: Vital) -> None:
        """Begins to start the first worker. `vital` guards the supervisors."""
        self._vital = vital
        self._start_another()

    async def wait_ready(self) -> None:
        """Waits until the first worker is ready.

        Raises:
          UnavailableError: DRAINING, if the pool is closed instead.
        """
        await self._workers[0].wait_ready()

    async def close(self) -> None:
        """Ends the workers at once; builds fail with DRAINING: queued, in flight and later ones."""
        self._closed = True
        for build in (build for builds in self._queued.values() for build in builds):
            if not build.worker.done():
                build.worker.set_exception(stopping())
        self._queued.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(worker.close() for worker in self._workers))

    @asynccontextmanager
    async def lease(self, caller: str = "", *, long: bool = False) -> AsyncIterator[Exchange]:
        """Leases a worker to a caller's build, which may be a `long` one; see `WorkerSupervisor.lease`.

        Raises:
          UnavailableError: DRAINING, if the pool is closed.
        """
        worker = await self._assigned(caller, _Build(long))
        try:
            async with worker.lease() as exchange:
                yield exchange
        finally:
            self._long -= long
            self._return(worker)

    async def _assigned(self, caller: str, build: _Build) -> WorkerSupervisor:
        if self._closed:
            raise stopping()
        self._queued.setdefault(caller, []).append(build)
        self._assign()
        try:
            return await build.worker
        except asyncio.CancelledError:
            if build.worker.cancelled():
                self._remove(caller, build)
            else:  # assigned in the same iteration of the event loop
                self._long -= build.long
                self._return(build.worker.result())
            raise

    def _assign(self) -> None:
        """Assigns idle workers to the next builds, and starts another worker if builds are left over."""
        while (upcoming := self._next()) is not None:
            if not self._idle:
                self._start_another()
                return
            caller, build = upcoming
            self._remove(caller, build)
            if caller in self._queued:
                self._queued[caller] = self._queued.pop(caller)  # behind the other callers
            self._long += build.long
            build.worker.set_result(self._idle.pop(0))

    def _next(self) -> tuple[str, _Build] | None:
        for caller, builds in self._queued.items():
            for build in builds:
                cancelled = build.worker.done()  # and not removed yet
                if not cancelled and (not build.long or self._long < self._most_long):
                    return caller, build
        return None

    def _remove(self, caller: str, build: _Build) -> None:
        builds = self._queued.get(caller, [])
        if build in builds:
            builds.remove(build)
            if not builds:
                del self._queued[caller]

    def _return(self, worker: WorkerSupervisor) -> None:
        """Makes a worker available again: at once, or once its successor is ready if it was killed."""
        if worker.ready:
            self._idle.append(worker)
            self._assign()
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
            self._assign()

        task = asyncio.create_task(expect())
        self._tasks.add(task)
        task.add_done_callback(self._expected)

    def _expected(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # DRAINING, which every queued build gets as well
