"""Laws of answering a stream's messages."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import pytest

from entropyd_server.rpc.streams import answer_each

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Numbers:
    """Messages for several tasks to take from: 0, 1, 2 and so on, and then an end or an error."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self._left = deque(range(count))
        self._error = error
        self.read: list[int] = []

    def __aiter__(self) -> Numbers:
        return self

    async def __anext__(self) -> int:
        if not self._left:
            raise self._error or StopAsyncIteration
        self.read.append(self._left.popleft())
        return self.read[-1]


async def answered(numbers: Numbers, answer: Callable[[int], Awaitable[int]], max_inflight: int) -> list[int]:
    found: list[int] = []

    async def write(value: int) -> None:
        found.append(value)

    await answer_each(numbers, answer, write, max_inflight)
    return found


def test_every_message_is_answered_once() -> None:
    async def answer(number: int) -> int:
        await asyncio.sleep((number * 7 % 5) / 1000)
        return number * number

    found = asyncio.run(answered(Numbers(100), answer, 8))
    assert sorted(found) == [number * number for number in range(100)]


def test_answers_that_are_there_at_once_keep_the_order() -> None:
    async def answer(number: int) -> int:
        return number

    assert asyncio.run(answered(Numbers(100), answer, 8)) == list(range(100))


def test_answers_may_overtake_one_another() -> None:
    async def main() -> None:
        first = asyncio.Event()

        async def answer(number: int) -> int:
            if number == 0:
                await first.wait()
            elif number == 2:
                first.set()
            return number

        assert await answered(Numbers(3), answer, 8) == [1, 2, 0]

    asyncio.run(main())


def test_no_more_is_read_than_may_be_in_flight() -> None:
    async def main() -> None:
        room = asyncio.Semaphore(0)
        numbers = Numbers(50)
        taken = 0

        async def answer(number: int) -> int:
            await asyncio.sleep(0)
            return number

        async def write(value: int) -> None:
            nonlocal taken
            await room.acquire()
            taken += 1

        answering = asyncio.create_task(answer_each(numbers, answer, write, 4))
        while not answering.done():
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(numbers.read) == min(taken + 4, 50)
            room.release()
        assert taken == 50

    asyncio.run(main())


def test_leaving_cancels_what_is_in_hand() -> None:
    async def main() -> None:
        cancelled: list[int] = []

        async def answer(number: int) -> int:
            if number == 0:
                return number
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
            return number

        answering = asyncio.create_task(answered(Numbers(3), answer, 8))
        await asyncio.sleep(0.01)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert sorted(cancelled) == [1, 2]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_what_the_caller_breaks_ends_the_stream_while_others_are_in_hand() -> None:
    async def main() -> None:
        async def answer(number: int) -> int:
            await asyncio.sleep(60)
            return number

        with pytest.raises(ConnectionError):
            await answered(Numbers(3, ConnectionError()), answer, 8)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_answer_that_fails_ends_the_stream() -> None:
    async def main() -> None:
        async def answer(number: int) -> int:
            await asyncio.sleep(0)
            if number == 5:
                raise ZeroDivisionError
            await asyncio.sleep(60)
            return number

        with pytest.raises(ZeroDivisionError):
            await answered(Numbers(100), answer, 8)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
