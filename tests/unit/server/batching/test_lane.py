"""Laws of callers in a queue: each settles once, with all its results or one error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from entropyd.contract.errors import DeadlineExceededError, UnavailableError
from entropyd_server.batching.lane import Lane, parts, settle
from entropyd_server.batching.observer import Observers
from entropyd_server.batching.queue import BatchQueue
from tests.unit.server.batching.test_queue import Model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from entropyd_server.batching.queue import Batch, Entry, Key


@dataclass
class Log:
    """An observer that keeps what it hears."""

    heard: list[str] = field(default_factory=list)

    def refused(self, reason: str) -> None:
        self.heard.append(reason)

    def ran_inline(self, key: Key, units: int, symbols: int, started_at: float, ended_at: float) -> None:
        raise AssertionError("a lane runs nothing")

    def ran(self, batch: Batch[Any], started_at: float, ended_at: float) -> None:
        raise AssertionError("a lane runs nothing")

    def settled(self, entry: Entry[Any]) -> None:
        self.heard.append(f"settled {entry.work.work}")


@dataclass
class Rig:
    lane: Lane[str, str] = field(init=False)
    log: Log = field(default_factory=Log)
    now: float = 0.0
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1

    async def call(self, work: str, units: int = 1, deadline: float = 1.0) -> asyncio.Task[list[str]]:
        submitted = self.lane.submit(Model("m"), work, units=units, unit_cost=1, deadline=deadline)
        call = asyncio.create_task(submitted)
        await asyncio.sleep(0)
        return call


def run(scenario: Callable[[Rig], Awaitable[None]]) -> Rig:
    rig = Rig()

    async def main() -> None:
        rig.lane = Lane(BatchQueue(1000), Observers(rig.log), lambda: rig.now, rig.wake)
        await scenario(rig)

    asyncio.run(main())
    return rig


def test_results_are_in_the_order_of_units_whichever_batch_ends_first() -> None:
    async def scenario(rig: Rig) -> None:
        call = await rig.call("a", units=3)
        batches = [rig.lane.next_batch(1) for _ in range(3)]
        for batch in reversed(batches):
            assert batch is not None
            settle(batch.shares, [f"{work}{start}" for work, start, _ in parts(batch.shares)])
        assert await call == ["a0", "a1", "a2"]
        assert rig.lane.next_batch(1) is None

    assert run(scenario).log.heard == ["settled a"]


def test_a_caller_settles_with_its_first_error_and_its_other_units_are_not_run() -> None:
    async def scenario(rig: Rig) -> None:
        call = await rig.call("a", units=3)
        first, second = rig.lane.next_batch(1), rig.lane.next_batch(1)
        assert first is not None
        assert second is not None
        settle(first.shares, [ValueError("first")])
        settle(second.shares, [ValueError("second")])
        with pytest.raises(ValueError, match="first"):
            await call
        assert rig.lane.next_batch(1) is None

    assert run(scenario).log.heard == ["settled a"]


def test_cancelled_and_expired_callers_are_not_run() -> None:
    async def scenario(rig: Rig) -> None:
        cancelled, late, good = (
            await rig.call("cancelled"),
            await rig.call("late"),
            await rig.call("good", 1, 9),
        )
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        rig.now = 2.0
        batch = rig.lane.next_batch(10)
        assert batch is not None
        assert parts(batch.shares) == [("good", 0, 1)]
        settle(batch.shares, ["done"])
        with pytest.raises(DeadlineExceededError):
            await late
        assert await good == ["done"]

    rig = run(scenario)
    assert rig.log.heard == ["settled cancelled", "expired", "settled late", "settled good"]
    assert rig.woken == 3


def test_all_queued_callers_can_be_failed_at_once() -> None:
    async def scenario(rig: Rig) -> None:
        calls = [await rig.call(work, units=5) for work in "abc"]
        rig.lane.fail_all(UnavailableError("gone", reason="WORKER_LOST"))
        for call in calls:
            with pytest.raises(UnavailableError, match="gone"):
                await call

    run(scenario)
