"""Laws of the batcher: real threads, work that is easy to check, and a clock that tests set."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from entropyd.contract.errors import DeadlineExceededError, OverloadedError
from entropyd_server.batching.batcher import Batcher
from entropyd_server.metrics import Metrics
from entropyd_server.observe.batch_metrics import BatchMetrics
from entropyd_server.transport import turns
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

WAIT_S = 30


class Poisoned(Exception):  # noqa: N818 - the bad element of a test
    """Raised for work that holds None."""


class Squares:
    """An operation that squares numbers, waits at a gate, and fails on None.

    Attributes:
      name: See Operation.
      gate: Runs wait while it is not set.
      while_running: Called in each run.
      callers: The number of callers of each run.
    """

    name = "compress"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.while_running: Callable[[], object] = lambda: None
        self.callers: list[int] = []
        self._begun = threading.Semaphore(0)

    def run(self, parts: Sequence[tuple[list[int | None], int, int]]) -> list[list[int]]:
        self._begun.release()
        assert self.gate.wait(WAIT_S)
        self.while_running()
        self.callers.append(len(parts))
        return [[self._square(number) for number in numbers[start:stop]] for numbers, start, stop in parts]

    async def begun(self, runs: int = 1) -> None:
        """Waits until so many runs have begun since the last time."""
        for _ in range(runs):
            assert await asyncio.to_thread(self._begun.acquire, timeout=WAIT_S)

    @staticmethod
    def _square(number: int | None) -> int:
        if number is None:
            raise Poisoned
        return number * number


@dataclass(frozen=True)
class Key:
    name: str
    operation: Squares
    kind: str = "squares"


@dataclass
class Rig:
    """A batcher of one operation, with all that tests observe or set.

    Attributes:
      now: The time of the batcher's clock.
    """

    batcher: Batcher[list[int | None], list[int]] = field(init=False)
    squares: Squares = field(default_factory=Squares)
    metrics: Metrics = field(default_factory=lambda: Metrics("test"))
    now: float = 0.0

    async def square(
        self, numbers: Sequence[int | None], *, key: str = "k", timeout_s: float | None = None
    ) -> list[int]:
        pieces = await self.batcher.submit(
            Key(key, self.squares), list(numbers), units=len(numbers), unit_cost=1, timeout_s=timeout_s
        )
        return [number for piece in pieces for number in piece]

    async def queue(self, numbers: Sequence[int | None], **options: Any) -> asyncio.Task[list[int]]:
        """A call that is queued, or whose batch was started."""
        call = asyncio.create_task(self.square(numbers, **options))
        await asyncio.sleep(0)
        return call

    async def block(self, numbers: Sequence[int | None] = (1,)) -> asyncio.Task[list[int]]:
        """A call that runs, and waits at the closed gate."""
        self.squares.gate.clear()
        call = await self.queue(numbers)
        await self.squares.begun()
        return call

    def advance(self, seconds: float) -> None:
        self.now += seconds


def run(
    scenario: Callable[[Rig], Awaitable[None]],
    *,
    max_queue_symbols: int = 10**9,
    inline_symbols: int = 0,
    threads: int = 2,
    max_batch_symbols: int = 8,
    in_turns: bool = False,
) -> Metrics:
    rig = Rig()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        rig.batcher = Batcher(
            max_queue_symbols=max_queue_symbols,
            max_batch_symbols=max_batch_symbols,
            max_batch_delay_s=0.0,
            inline_symbols={rig.squares: inline_symbols},
            threads=threads,
            observer=BatchMetrics(rig.metrics),
            resume=turns.current_loop().resume if in_turns else loop.call_soon_threadsafe,
            vital=Vital(pytest.fail),
            clock=lambda: rig.now,
        )
        await scenario(rig)
        assert rig.batcher.queue_symbols == 0
        await rig.batcher.close()  # with the batches whose callers were cancelled

    if in_turns:
        turns.run(main())
    else:
        asyncio.run(main())
    return rig.metrics


@pytest.mark.parametrize("in_turns", [False, True])
@pytest.mark.parametrize("inline_symbols", [0, 10**6])
def test_every_caller_gets_its_own_outcome_whoever_fails_or_is_cancelled(
    inline_symbols: int, in_turns: bool
) -> None:
    async def scenario(rig: Rig) -> None:
        chance = random.Random(0)  # noqa: S311 - a test's choices

        async def pause(most: int) -> None:
            for _ in range(chance.randrange(most)):
                await asyncio.sleep(0)

        async def caller(number: int) -> None:
            await pause(200)
            numbers: list[int | None] = [number * 100 + i for i in range(chance.randint(1, 40))]
            squared = [n * n for n in numbers if n is not None]
            kind = chance.choice(["good", "good", "poisoned", "cancelled"])
            if kind == "poisoned":
                numbers[chance.randrange(len(numbers))] = None
            call = asyncio.create_task(rig.square(numbers, key=f"k{number % 3}"))
            if kind == "cancelled":
                await pause(50)
                call.cancel()
                (outcome,) = await asyncio.gather(call, return_exceptions=True)
                assert isinstance(outcome, asyncio.CancelledError) or outcome == squared
            elif kind == "poisoned":
                with pytest.raises(Poisoned):
                    await call
            else:
                assert await call == squared

        await asyncio.gather(*(caller(number) for number in range(400)))

    run(scenario, inline_symbols=inline_symbols, in_turns=in_turns)


def test_calls_that_are_queued_while_threads_are_busy_share_a_batch() -> None:
    async def scenario(rig: Rig) -> None:
        calls = [await rig.block()]
        calls += [await rig.queue([n]) for n in range(6)]
        rig.squares.gate.set()
        await asyncio.gather(*calls)
        assert rig.squares.callers == [1, 6]

    run(scenario, threads=1)


def test_a_large_call_is_split_between_threads() -> None:
    async def scenario(rig: Rig) -> None:
        assert await rig.square(range(100)) == [n * n for n in range(100)]
        assert len(rig.squares.callers) >= 100 / 8

    run(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_kernel_threads_have_a_lower_priority() -> None:
    seen: list[int] = []

    async def scenario(rig: Rig) -> None:
        rig.squares.while_running = lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0))
        await rig.square([1])

    run(scenario)
    (while_running,) = seen
    assert while_running == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)


def test_a_full_queue_refuses_at_once_and_says_when_to_retry() -> None:
    async def scenario(rig: Rig) -> None:
        calls = [await rig.block(), await rig.queue([2])]
        await rig.squares.begun()
        calls.append(await rig.queue(range(20)))
        with pytest.raises(OverloadedError) as caught:
            await rig.square([1])
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 0
        rig.squares.gate.set()
        await asyncio.gather(*calls)

    assert run(scenario, max_queue_symbols=20).shed == {
        "queue_full": 1,
        "deadline": 0,
        "expired": 0,
        "stalled": 0,
    }


def test_the_end_of_the_queue_is_for_calls_whose_messages_are_being_received() -> None:
    async def scenario(rig: Rig) -> None:
        calls = [await rig.block()]
        calls += [await rig.queue(range(10)) for _ in range(7)]
        rig.batcher.admit(None)
        calls.append(await rig.queue(range(10)))
        with pytest.raises(OverloadedError):
            rig.batcher.admit(None)
        # At eight tenths, a call that was received is taken, however large it is.
        calls.append(await rig.queue(range(90)))
        with pytest.raises(OverloadedError):
            await rig.square([1])
        rig.squares.gate.set()
        await asyncio.gather(*calls)
        rig.batcher.admit(None)

    shed = run(scenario, max_queue_symbols=100, threads=1).shed
    assert shed == {"queue_full": 2, "deadline": 0, "expired": 0, "stalled": 0}


def test_a_deadline_that_passes_in_the_queue_is_reported_and_costs_no_run() -> None:
    async def scenario(rig: Rig) -> None:
        running = await rig.block()
        late = await rig.queue([2], timeout_s=0.01)
        rig.advance(0.03)
        rig.squares.gate.set()
        await running
        with pytest.raises(DeadlineExceededError, match="queued"):
            await late
        assert rig.squares.callers == [1]

    assert run(scenario, threads=1).shed == {"queue_full": 0, "deadline": 0, "expired": 1, "stalled": 0}


def test_a_deadline_that_the_measured_rate_cannot_meet_is_refused_early() -> None:
    async def scenario(rig: Rig) -> None:
        rig.squares.while_running = lambda: rig.advance(0.05)
        await rig.square([1])  # one symbol in 50 ms
        await rig.squares.begun()
        calls = [await rig.block(), await rig.queue(range(100))]
        with pytest.raises(DeadlineExceededError, match="100 symbols are queued"):
            await rig.square([1], timeout_s=1.0)
        rig.squares.gate.set()
        await asyncio.gather(*calls)

    assert run(scenario, threads=1).shed == {"queue_full": 0, "deadline": 1, "expired": 0, "stalled": 0}


def test_the_time_of_a_tiny_batch_is_not_taken_for_the_rate_of_large_ones() -> None:
    async def scenario(rig: Rig) -> None:
        # It is queued, behind a large one; alone in the queue, it would run at once.
        calls = [await rig.block(range(2000)), await rig.queue(range(2000)), await rig.queue([1], key="tiny")]
        rig.squares.while_running = lambda: rig.advance(0.1)  # as if the machine had paused
        rig.squares.gate.set()
        await asyncio.gather(*calls)
        await rig.squares.begun(2)
        calls = [await rig.block(range(2000)), await rig.queue(range(100_000))]
        calls.append(await rig.queue([1], timeout_s=30.0))
        rig.squares.gate.set()
        rig.squares.while_running = lambda: None
        await asyncio.gather(*calls)

    shed = run(scenario, threads=1, inline_symbols=1000, max_batch_symbols=10**6).shed
    assert not any(shed.values())


def test_time_without_progress_shows_while_there_is_work() -> None:
    async def scenario(rig: Rig) -> None:
        rig.advance(60)
        assert rig.batcher.stalled_s == 0
        stuck = await rig.block()
        rig.advance(45)
        assert rig.batcher.stalled_s == 45
        rig.squares.gate.set()
        await stuck
        assert rig.batcher.stalled_s == 0

    run(scenario)


def test_callers_who_give_up_do_not_hide_threads_that_hang() -> None:
    async def scenario(rig: Rig) -> None:
        stuck = await rig.block()
        for _ in range(5):
            rig.advance(10)
            call = await rig.queue([2])
            call.cancel()
            await asyncio.wait([call])
        assert rig.batcher.queue_symbols == 0
        assert rig.batcher.stalled_s == 50
        rig.squares.gate.set()
        await stuck

    run(scenario, threads=1)
