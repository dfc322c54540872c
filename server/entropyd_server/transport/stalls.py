"""Ends calls whose callers hold them up.

A call is held up if it waits for its caller, to send a message or to take one, and none came through within
the limit. gRPC's core shows whole messages only, not how much of one has come. Streams that have had messages
may rest for as long as their caller likes, unless all places are taken.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from entropyd_server.transport.call import Call

# Looks within the limit; a call may last longer than the limit by one of these parts.
_LOOKS = 4


class Stalls:
    """Finds calls that are held up, by looking at them again and again.

    Args:
      limit_s: Seconds without a message.
      count: Called for each call that is ended.
    """

    def __init__(self, limit_s: float, count: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._count = count
        # How many messages of each call there were, and how many looks ago that was new.
        self._seen: dict[Call, tuple[int, int]] = {}

    def look(self, calls: Iterable[Call], *, crowded: bool) -> Iterator[Call]:
        """Looks at all calls.

        Args:
          calls: The calls that have not ended.
          crowded: Whether resting streams are to go.

        Yields:
          Those that are to be ended.
        """
        seen, self._seen = self._seen, {}
        for call in calls:
            events, looks = seen.get(call, (call.events, -1))
            looks = looks + 1 if events == call.events and call.waits_for_caller else 0
            self._seen[call] = (call.events, looks)
            if looks >= _LOOKS and (call.owed or crowded):
                yield call

    async def watch(self, calls: Iterable[Call], crowded: Callable[[], bool]) -> None:
        """Ends calls that are held up, for as long as it is awaited."""
        while True:
            await asyncio.sleep(self._limit_s / _LOOKS)
            for call in list(self.look(calls, crowded=crowded())):
                self._end(call)

    def _end(self, call: Call) -> None:
        self._count()
        if call.owed:
            call.break_off(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no message came through within {self._limit_s:g} s"
            )
        else:
            call.break_off(
                grpc.StatusCode.UNAVAILABLE,
                f"no message came through within {self._limit_s:g} s, and other calls need the place",
            )
