"""Laws of the batcher: real threads, work that is easy to check."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from entropyd.contract.errors import DeadlineExceededError, OverloadedError
from entropyd_server.batching.batcher import Batcher, _Caller
from entropyd_server.batching.queue import BatchQueue, Entry
from entropyd_server.metrics import Metrics
from entropyd_server.transport import turns
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


@dataclass(frozen=True)
class Key:
    name: str
    operation: str = "compress"


class Poisoned(Exception):  # noqa: N818 - the bad element of a test
    """Raised for work that holds None."""


class Squares:
    """Squares numbers; counts calls, waits at a gate, fails on None."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[int] = []
        self.coding: Callable[[], object] = lambda: None

    def __call__(self, key: Key, parts: Sequence[tuple[list[int | None], int, int]]) -> list[list[int]]:
        self.gate.wait(30)
        self.coding()
        self.calls.append(len(parts))
        return [[self.square(number) for number in numbers[start:stop]] for numbers, start, stop in parts]

    @staticmethod
    def square(number: int | None) -> int:
        if number is None:
            raise Poisoned
        return number * number


def run(
    scenario: Callable[[Batcher[list[int | None], list[int]], Squares], Awaitable[None]],
    *,
    max_queue_symbols: int = 10**9,
    inline_symbols: int = 0,
    threads: int = 2,
    max_batch_symbols: int = 8,
) -> Metrics:
    metrics = Metrics("test")

    async def main() -> None:
        squares = Squares()
        batcher: Batcher[list[int | None], list[int]] = Batcher(
            BatchQueue(max_queue_symbols),
            squares,
            threads=threads,
            max_batch_symbols=max_batch_symbols,
            inline_symbols={"compress": inline_symbols},
            max_batch_delay_s=0.0,
            metrics=metrics,
            vital=Vital(pytest.fail),
        )
        await scenario(batcher, squares)
        assert batcher.queue_symbols == 0
        # What a caller who left had in hand comes to its end; nothing tells when.
        while batcher.stalled_s:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await batcher.close()

    turns.run(main())
    return metrics


async def square(
    batcher: Batcher[list[int | None], list[int]],
    numbers: list[int | None],
    *,
    key: str = "k",
    timeout_s: float | None = None,
) -> list[int]:
    pieces = await batcher.submit(Key(key), numbers, units=len(numbers), unit_cost=1, timeout_s=timeout_s)
    return [number for piece in pieces for number in piece]


@pytest.mark.parametrize("inline_symbols", [0, 10**6])
def test_everyone_gets_their_own_answer_whoever_leaves_or_fails(inline_symbols: int) -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        chance = random.Random(0)  # noqa: S311 - a test's choices

        async def caller(number: int) -> None:
            await asyncio.sleep(chance.random() / 50)
            numbers: list[int | None] = [number * 100 + i for i in range(chance.randint(1, 40))]
            kind = chance.choice(["good", "good", "poisoned", "leaves"])
            if kind == "poisoned":
                numbers[chance.randrange(len(numbers))] = None
            asking = asyncio.create_task(square(batcher, numbers, key=f"k{number % 3}"))
            if kind == "leaves":
                await asyncio.sleep(chance.random() / 100)
                asking.cancel()
                (outcome,) = await asyncio.gather(asking, return_exceptions=True)
                assert isinstance(outcome, asyncio.CancelledError) or outcome == [
                    n * n for n in numbers if n is not None
                ]
            elif kind == "poisoned":
                with pytest.raises(Poisoned):
                    await asking
            else:
                assert await asking == [n * n for n in numbers if n is not None]

        await asyncio.gather(*(caller(number) for number in range(400)))

    run(scenario, inline_symbols=inline_symbols)


def test_what_gathers_while_threads_are_busy_is_coded_together() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.gate.clear()
        first = asyncio.create_task(square(batcher, [1]))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(square(batcher, [n])) for n in range(6)]
        await asyncio.sleep(0.01)
        squares.gate.set()
        await asyncio.gather(first, *others)
        assert squares.calls == [1, 6]

    run(scenario, threads=1)


def test_a_large_call_is_split_between_threads() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        assert await square(batcher, list(range(100))) == [n * n for n in range(100)]
        assert len(squares.calls) >= 100 / 8

    run(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_threads_that_code_give_way_to_those_who_take_calls() -> None:
    seen: list[int] = []

    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.coding = lambda: seen.append(os.getpriority(os.PRIO_PROCESS, 0))
        await square(batcher, [1])

    run(scenario)
    (while_coding,) = seen
    assert while_coding == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.gate.clear()
        running = [asyncio.create_task(square(batcher, [n])) for n in range(2)]
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(square(batcher, list(range(20))))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError) as caught:
            await square(batcher, [1])
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 0
        squares.gate.set()
        await asyncio.gather(*running, waiting)

    assert run(scenario, max_queue_symbols=20).shed == {
        "queue_full": 1,
        "deadline": 0,
        "expired": 0,
        "stalled": 0,
    }


def test_the_end_of_the_queue_is_for_those_whose_messages_are_on_their_way() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.gate.clear()
        running = asyncio.create_task(square(batcher, [1]))
        await asyncio.sleep(0.01)
        callers = [asyncio.create_task(square(batcher, list(range(10)))) for _ in range(7)]
        await asyncio.sleep(0.01)
        batcher.admit(None)
        callers.append(asyncio.create_task(square(batcher, list(range(10)))))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError):
            batcher.admit(None)
        # Eight tenths of it wait. Who is there already is taken, however much they bring.
        callers.append(asyncio.create_task(square(batcher, list(range(90)))))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError):
            await square(batcher, [1])
        squares.gate.set()
        await asyncio.gather(running, *callers)
        batcher.admit(None)

    shed = run(scenario, max_queue_symbols=100, threads=1).shed
    assert shed == {"queue_full": 2, "deadline": 0, "expired": 0, "stalled": 0}


def test_a_deadline_that_passes_in_the_queue_is_said_so_and_costs_no_coding() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.gate.clear()
        running = asyncio.create_task(square(batcher, [1]))
        await asyncio.sleep(0.01)
        late = asyncio.create_task(square(batcher, [2], timeout_s=0.01))
        await asyncio.sleep(0.03)
        squares.gate.set()
        await running
        with pytest.raises(DeadlineExceededError, match="queued"):
            await late
        assert squares.calls == [1]

    assert run(scenario, threads=1).shed == {"queue_full": 0, "deadline": 0, "expired": 1, "stalled": 0}


def test_a_deadline_that_the_measured_rate_cannot_meet_is_refused_early() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.gate.clear()
        slow = asyncio.create_task(square(batcher, [1]))
        await asyncio.sleep(0.05)
        squares.gate.set()
        await slow  # one symbol in 50 ms
        squares.gate.clear()
        running = asyncio.create_task(square(batcher, [1]))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(square(batcher, list(range(100))))
        await asyncio.sleep(0.01)
        with pytest.raises(DeadlineExceededError, match="100 symbols are queued"):
            await square(batcher, [1], timeout_s=1.0)
        squares.gate.set()
        await asyncio.gather(running, waiting)

    assert run(scenario, threads=1).shed == {"queue_full": 0, "deadline": 1, "expired": 0, "stalled": 0}


def test_the_time_of_a_tiny_batch_is_not_taken_for_the_rate_of_large_ones() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        squares.gate.clear()
        running = asyncio.create_task(square(batcher, list(range(2000))))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(square(batcher, list(range(100_000))))
        await asyncio.sleep(0)
        # One symbol, in the time of a pause of the machine.
        alone: BatchQueue[Any] = BatchQueue(1)
        tiny = _Caller([1], asyncio.get_running_loop().create_future())
        alone.append(Entry(Key("tiny"), tiny, 1, 1, float("inf")), 0.0)
        batch, _ = alone.next_batch(0.0, 1)
        assert batch is not None
        batcher._settle(batch, [[1]], 0.1)
        accepted = asyncio.create_task(square(batcher, [1], timeout_s=30.0))
        await asyncio.sleep(0)
        squares.gate.set()
        await asyncio.gather(running, waiting, accepted)

    shed = run(scenario, threads=1, inline_symbols=1000, max_batch_symbols=10**6).shed
    assert not any(shed.values())


def test_work_that_makes_no_progress_shows() -> None:
    async def scenario(batcher: Batcher[list[int | None], list[int]], squares: Squares) -> None:
        assert batcher.stalled_s == 0
        squares.gate.clear()
        stuck = asyncio.create_task(square(batcher, [1]))
        await asyncio.sleep(0.05)
        assert batcher.stalled_s > 0.02
        squares.gate.set()
        await stuck

    run(scenario)
