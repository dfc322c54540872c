"""Laws of the order of builds: callers take turns, one worker is left to short builds, and all settle."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import UnavailableError
from entropyd_server.modeling.builder_pool import BuilderPool
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from entropyd_server.modeling.supervisor import WorkerSupervisor

VITAL = Vital(pytest.fail)


@dataclass
class Worker:
    """Stands for a process: ready as soon as it is started, until it is lost."""

    ready: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> asyncio.Task[bool]:
        self.ready = True
        self.came.set()
        return asyncio.create_task(asyncio.sleep(0, True))  # noqa: FBT003 - what its end gives

    async def wait_ready(self) -> None:
        await self.came.wait()

    async def close(self) -> None:
        self.ready = False

    def lose(self) -> None:
        self.ready = False
        self.came.clear()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Worker]:
        assert self.ready
        yield self


class Builds:
    """A pool of workers, and the builds that were begun on it."""

    def __init__(self, count: int) -> None:
        self.workers = [Worker() for _ in range(count)]
        self.pool = BuilderPool(cast("list[WorkerSupervisor]", self.workers))
        self.begun: list[str] = []
        self.on: dict[str, Worker] = {}
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, caller: str = "", *, long: bool = False) -> None:
        self.ends[name] = asyncio.Event()

        async def build() -> None:
            async with self.pool.lease(caller, long=long) as worker:
                self.begun.append(name)
                self.on[name] = cast("Worker", worker)
                await self.ends[name].wait()

        self.tasks[name] = asyncio.create_task(build())
        await settle()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await settle()

    async def leave(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    @property
    def started(self) -> int:
        return sum(worker.came.is_set() for worker in self.workers)


async def settle() -> None:
    """Lets every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_callers_take_turns_however_many_builds_each_has() -> None:
    async def scenario() -> None:
        builds = Builds(1)
        await builds.pool.start(VITAL)
        for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
            await builds.begin(name, name[0])
        for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
            assert builds.begun[-1] == name
            await builds.end(name)

    asyncio.run(scenario())


def test_further_workers_are_started_when_a_build_waits_and_not_before() -> None:
    async def scenario() -> None:
        builds = Builds(3)
        await builds.pool.start(VITAL)
        started = []
        for name in "abcd":
            await builds.begin(name)
            started.append(builds.started)
        assert started == [1, 2, 3, 3]
        assert builds.begun == ["a", "b", "c"]

    asyncio.run(scenario())


def test_long_builds_leave_a_worker_to_others() -> None:
    async def scenario() -> None:
        builds = Builds(2)
        await builds.pool.start(VITAL)
        for name in ("long1", "long2"):
            await builds.begin(name, name, long=True)
        assert builds.started == 1  # the other would not be for them
        await builds.begin("short1", "long2")
        await builds.end("short1")
        await builds.begin("short2", "other")
        assert builds.begun == ["long1", "short1", "short2"]
        await builds.end("long1")
        assert builds.begun[-1] == "long2"

    asyncio.run(scenario())


def test_a_lone_worker_takes_long_builds_too() -> None:
    async def scenario() -> None:
        builds = Builds(1)
        await builds.pool.start(VITAL)
        await builds.begin("long", long=True)
        assert builds.begun == ["long"]

    asyncio.run(scenario())


def test_a_worker_that_was_lost_is_handed_out_once_it_is_back() -> None:
    async def scenario() -> None:
        builds = Builds(1)
        await builds.pool.start(VITAL)
        await builds.begin("a")
        builds.workers[0].lose()
        await builds.leave("a")
        await builds.begin("b")
        assert builds.begun == ["a"]
        await builds.workers[0].start()
        await settle()
        assert builds.begun == ["a", "b"]

    asyncio.run(scenario())


def test_closing_tells_all_that_wait_and_all_that_come() -> None:
    async def scenario() -> None:
        builds = Builds(1)
        await builds.pool.start(VITAL)
        for name in ("in flight", "queued"):
            await builds.begin(name)
        await builds.pool.close()
        await builds.begin("later")
        for name in ("queued", "later"):
            with pytest.raises(UnavailableError) as caught:
                await builds.tasks[name]
            assert caught.value.reason == "DRAINING"
        await builds.end("in flight")
        assert builds.begun == ["in flight"]

    asyncio.run(scenario())


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["begin", "begin long", "end", "leave", "lose"]), st.integers(0, 20)),
    max_size=40,
)


@given(count=st.integers(1, 3), actions=ACTIONS)
def test_whatever_happens_no_worker_is_shared_or_forgotten(
    count: int, actions: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        builds = Builds(count)
        await builds.pool.start(VITAL)
        long = set()
        for number, (action, which) in enumerate(actions):
            unsettled = [name for name, task in builds.tasks.items() if not task.done()]
            if action.startswith("begin"):
                name = f"{number}"
                long |= {name} if "long" in action else set()
                await builds.begin(name, str(which % 3), long="long" in action)
            elif unsettled:
                name = unsettled[which % len(unsettled)]
                if action == "lose" and name in builds.on:
                    builds.on[name].lose()
                    await builds.leave(name)
                    await builds.on[name].start()
                elif action == "end":
                    await builds.end(name)
                else:
                    await builds.leave(name)
            in_flight = [name for name in builds.on if not builds.tasks[name].done()]
            assert len({id(builds.on[name]) for name in in_flight}) == len(in_flight)
            assert len(long & set(in_flight)) <= max(count - 1, 1)
        for event in builds.ends.values():
            event.set()
        await settle()
        results: list[Any] = await asyncio.gather(*builds.tasks.values(), return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert len(builds.pool._idle) == builds.started
        assert not builds.pool._queued
        assert builds.pool._long == 0

    asyncio.run(scenario())
