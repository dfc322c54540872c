"""Laws of shared computations: one per key at a time, and no waiter can take it from another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from entropyd_server.models.single_flight import SingleFlight


@dataclass
class Computation:
    """Counts its starts and ends, and waits in between until it is let go."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = 0
    ended: int = 0
    failure: Exception | None = None

    async def compute(self) -> int:
        self.started += 1
        await self.go.wait()
        self.ended += 1
        if self.failure is not None:
            raise self.failure
        return self.started


async def settle() -> None:
    """Lets every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_many_callers_of_one_key_share_one_computation() -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        computation = Computation()
        callers = [asyncio.create_task(flights.run("k", computation.compute)) for _ in range(10)]
        await settle()
        computation.go.set()
        assert await asyncio.gather(*callers) == [1] * 10

    asyncio.run(scenario())


def test_keys_are_computed_side_by_side() -> None:
    async def scenario() -> None:
        flights: SingleFlight[int, int] = SingleFlight()
        computations = [Computation() for _ in range(3)]
        callers = [asyncio.create_task(flights.run(k, each.compute)) for k, each in enumerate(computations)]
        await settle()
        assert [each.started for each in computations] == [1, 1, 1]
        for each in computations:
            each.go.set()
        await asyncio.gather(*callers)

    asyncio.run(scenario())


def test_a_landed_flight_is_not_kept() -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        computation = Computation()
        computation.go.set()
        assert await flights.run("k", computation.compute) == 1
        assert await flights.run("k", computation.compute) == 2

    asyncio.run(scenario())


def test_every_waiter_gets_the_failure_and_the_next_caller_tries_again() -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        computation = Computation(failure=ValueError("no"))
        callers = [asyncio.create_task(flights.run("k", computation.compute)) for _ in range(3)]
        await settle()
        computation.go.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert answers == [computation.failure] * 3
        computation.failure = None
        assert await flights.run("k", computation.compute) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("leaver", [0, 1])
def test_a_waiter_that_is_cancelled_takes_nothing_from_the_others(leaver: int) -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        computation = Computation()
        callers = [asyncio.create_task(flights.run("k", computation.compute)) for _ in range(2)]
        await settle()
        callers[leaver].cancel()
        await settle()
        assert callers[leaver].cancelled()
        computation.go.set()
        assert await callers[1 - leaver] == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", [None, ValueError("no")])
def test_a_computation_whose_waiters_have_all_left_runs_to_its_end(failure: Exception | None) -> None:
    complaints: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        flights: SingleFlight[str, int] = SingleFlight()
        computation = Computation(failure=failure)
        caller = asyncio.create_task(flights.run("k", computation.compute))
        await settle()
        caller.cancel()
        await settle()
        computation.go.set()
        await settle()
        assert computation.ended == 1

    asyncio.run(scenario())
    assert complaints == []


def test_a_computation_may_be_cancelled_when_its_last_waiter_is() -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight(cancel_abandoned=True)
        computation = Computation()
        callers = [asyncio.create_task(flights.run("k", computation.compute)) for _ in range(2)]
        await settle()
        for number, caller in enumerate(callers):
            assert "k" in flights, number
            caller.cancel()
            await settle()
        assert "k" not in flights
        computation.go.set()
        await settle()
        assert computation.ended == 0
        # Whoever comes later begins anew.
        assert await flights.run("k", computation.compute) == 2

    asyncio.run(scenario())


def test_a_waiter_that_comes_while_an_abandoned_computation_ends_begins_anew() -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight(cancel_abandoned=True)
        ending = asyncio.Event()

        async def slow_to_end() -> int:
            try:
                await asyncio.Event().wait()
            finally:
                await ending.wait()
            return 0

        first = asyncio.create_task(flights.run("k", slow_to_end))
        await settle()
        first.cancel()
        await settle()
        computation = Computation()
        second = asyncio.create_task(flights.run("k", computation.compute))
        await settle()
        ending.set()
        await settle()
        assert "k" in flights
        computation.go.set()
        assert await second == 1

    asyncio.run(scenario())


def test_a_caller_that_comes_after_all_have_left_joins_the_flight() -> None:
    async def scenario() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        computation = Computation()
        first = asyncio.create_task(flights.run("k", computation.compute))
        await settle()
        first.cancel()
        await settle()
        second = asyncio.create_task(flights.run("k", computation.compute))
        await settle()
        computation.go.set()
        assert await second == 1

    asyncio.run(scenario())
