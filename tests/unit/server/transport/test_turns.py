"""Laws of taking turns with the event loop: one runs at a time, nobody waits long, nothing is left lying."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from entropyd_server.transport.turns import current_loop, run

if TYPE_CHECKING:
    from collections.abc import Callable

# A thread that is kept out of its turn, or a loop that is not woken, ends the test by this.
_PATIENCE_S = 20


async def in_thread(work: Callable[[], None]) -> None:
    """Waits for a thread of its own, without the help of the loop's callbacks."""
    thread = threading.Thread(target=work)
    thread.start()
    until = time.monotonic() + _PATIENCE_S
    while thread.is_alive():
        assert time.monotonic() < until
        await asyncio.sleep(0.001)


def test_the_loop_and_a_thread_in_its_turn_never_run_together() -> None:
    inside: list[str] = []
    worst = 0

    def visit(who: str) -> None:
        nonlocal worst
        inside.append(who)
        worst = max(worst, len(inside))
        time.sleep(0.0001)  # lets the other one in, if anything does
        inside.remove(who)

    async def main() -> None:
        loop = current_loop()

        def work() -> None:
            for _ in range(20):
                with loop.turn:
                    visit("thread")

        working = asyncio.ensure_future(in_thread(work))
        while not working.done():
            visit("loop")
            await asyncio.sleep(0)
        await working

    run(main())
    assert worst == 1


def test_what_becomes_ready_in_a_turn_goes_on_in_it() -> None:
    async def main() -> None:
        loop = current_loop()
        answered: asyncio.Future[int] = loop.create_future()
        went_on: list[tuple[int, bool]] = []

        async def caller() -> None:
            number = await answered
            await asyncio.sleep(0)  # and what becomes ready by that
            went_on.append((number, threading.current_thread().name == "worker"))
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task

        def work() -> None:
            threading.current_thread().name = "worker"
            with loop.turn:
                answered.set_result(7)
            assert went_on == [(7, True)]

        task = asyncio.create_task(caller())
        await in_thread(work)
        await task
        assert went_on == [(7, True)]

    run(main())


def test_a_loop_ends_when_its_last_task_ends_in_a_turn() -> None:
    threads: list[threading.Thread] = []

    async def main() -> str:
        loop = current_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            time.sleep(0.05)  # the loop waits by now
            with loop.turn:
                answered.set_result(None)

        threads.append(threading.Thread(target=work))
        threads[0].start()
        await answered
        return threading.current_thread().name

    assert run(main()) == threads[0].name
    threads[0].join()


def test_a_timer_that_is_set_in_a_turn_wakes_the_loop() -> None:
    async def main() -> None:
        loop = current_loop()
        rang = asyncio.Event()

        def work() -> None:
            time.sleep(0.05)  # the loop waits for nothing by now
            with loop.turn:
                loop.call_later(0.01, rang.set)

        thread = threading.Thread(target=work)
        thread.start()
        await rang.wait()
        thread.join()

    run(main())


def test_a_reader_that_is_put_in_the_place_of_another_is_kept() -> None:
    async def main() -> None:
        loop = current_loop()
        heard = asyncio.Event()
        here, there = socket.socketpair()

        def work() -> None:
            with loop.turn:
                there.send(b"x")
                time.sleep(0.05)  # the loop finds it, and waits for its turn
                loop.remove_reader(here)
                loop.add_reader(here, read)

        def read() -> None:
            here.recv(4096)
            heard.set()

        with here, there:
            here.settimeout(0)
            loop.add_reader(here, read)
            await in_thread(work)
            heard.clear()
            there.send(b"x")
            await asyncio.wait_for(heard.wait(), _PATIENCE_S)
            loop.remove_reader(here)

    run(main())


@pytest.mark.parametrize("greedy", ["loop", "thread"])
def test_whoever_is_always_ready_lets_the_other_one_in(greedy: str) -> None:
    async def main() -> None:
        loop = current_loop()
        stop = threading.Event()

        def again() -> None:
            if not stop.is_set():
                loop.call_soon(again)

        def work() -> None:
            if greedy == "loop":
                with loop.turn:
                    pass
                stop.set()
            while not stop.is_set():
                with loop.turn:
                    loop.call_soon(again)

        if greedy == "loop":
            again()
        else:
            loop.call_later(0.05, stop.set)
        await in_thread(work)

    run(main())


def test_a_callback_that_fails_in_a_turn_costs_the_others_nothing() -> None:
    async def main() -> None:
        loop = current_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

        def fail() -> None:
            raise ValueError("no")

        def work() -> None:
            with loop.turn:
                loop.call_soon(fail)
                loop.call_soon(told.append, "next")
                loop.call_soon(told.append, "cancelled").cancel()
            assert told == ["no", "next"]

        await in_thread(work)
        assert told == ["no", "next"]

    run(main())


def test_run_gives_the_result_and_ends_what_was_begun() -> None:
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def main() -> int:
        main.task = asyncio.create_task(lasting())  # type: ignore[attr-defined]  # keeps it
        await asyncio.sleep(0)
        return 7

    assert run(main()) == 7
    assert ended == ["task"]
