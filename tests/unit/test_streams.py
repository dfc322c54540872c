"""Laws of answering a stream's messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from entropyd_server.rpc.streams import answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def numbers(count: int, read: list[int]) -> AsyncIterator[int]:
    for number in range(count):
        read.append(number)
        yield number


def test_every_message_is_answered_once() -> None:
    async def main() -> None:
        async def answer(number: int) -> int:
            await asyncio.sleep((number * 7 % 5) / 1000)
            return number * number

        found = [value async for value in answers(numbers(100, []), answer, 8)]
        assert sorted(found) == [number * number for number in range(100)]

    asyncio.run(main())


def test_answers_may_overtake_one_another() -> None:
    async def main() -> None:
        first = asyncio.Event()

        async def answer(number: int) -> int:
            if number == 0:
                await first.wait()
            return number

        found = []
        async for value in answers(numbers(3, []), answer, 8):
            found.append(value)
            if len(found) == 2:
                first.set()
        assert found[-1] == 0

    asyncio.run(main())


def test_no_more_is_read_than_may_be_in_flight() -> None:
    async def main() -> None:
        read: list[int] = []

        async def answer(number: int) -> int:
            return number

        async for value in answers(numbers(50, read), answer, 4):
            await asyncio.sleep(0)
            # One more may have been read than has a place: the one that waits for it.
            assert len(read) <= value + 4 + 1

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

        stream = answers(numbers(3, []), answer, 8)
        assert await anext(stream) == 0
        await asyncio.sleep(0.01)
        await stream.aclose()
        assert sorted(cancelled) == [1, 2]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_what_the_caller_breaks_ends_the_stream() -> None:
    async def main() -> None:
        async def broken() -> AsyncIterator[int]:
            yield 1
            raise ConnectionError

        async def answer(number: int) -> int:
            return number

        with pytest.raises(ConnectionError):
            _ = [value async for value in answers(broken(), answer, 8)]

    asyncio.run(main())
