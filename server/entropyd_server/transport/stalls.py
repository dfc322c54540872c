"""Ends calls that wait for their callers for too long.

A call is stalled if it waits for its caller to send a message or to take one, and none was transferred within
the limit. gRPC's core shows whole messages only, not how much of one has arrived. A stream that has
transferred messages may rest for as long as its caller likes, unless the server is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from entropyd.contract.errors import DeadlineExceededError, UnavailableError
from entropyd_server.transport.call import Call

# Looks within the limit; a call may exceed the limit by the time between two looks.
_LOOKS = 4


class Stalls:
    """Ends calls without a message for `limit_s`, found by periodic looks; `count` is called for each."""

    def __init__(self, limit_s: float, count: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._count = count
        # The number of messages of each call, and since how many looks it has not changed.
        self._seen: dict[Call, tuple[int, int]] = {}

    def look(self, calls: Iterable[Call], *, crowded: bool) -> Iterator[Call]:
        """Looks at all calls that have not ended; yields those to end, resting streams too if `crowded`."""
        seen, self._seen = self._seen, {}
        for call in calls:
            events, looks = seen.get(call, (call.events, -1))
            looks = looks + 1 if events == call.events and call.waits_for_caller else 0
            self._seen[call] = (call.events, looks)
            if looks >= _LOOKS and (call.owed or crowded):
                yield call

    async def watch(self, calls: Iterable[Call], crowded: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(self._limit_s / _LOOKS)
            for call in list(self.look(calls, crowded=crowded())):
                self._end(call)

    def _end(self, call: Call) -> None:
        self._count()
        what = f"no message came through within {self._limit_s:g} s"
        if call.owed:
            call.break_off(DeadlineExceededError(what))
        else:
            call.break_off(UnavailableError(f"{what}, and other calls need the place"))
