"""What a worker is asked to do, how much that may take, and how often it is tried.

Owns the limits of time and memory, the errors past them, and the error for a worker that is lost. It must not
know what the work is. Invariant: a call past a limit is told which limit, its value, and what usually is the
cause.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from entropyd.contract.errors import LimitExceededError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from entropyd_server.modeling.process import WorkerProcess

TIME_LIMIT = "time_limit"
MEMORY_LIMIT = "memory_limit"
WORKER_LOST = "WORKER_LOST"
_MEMORY_POLL_SECONDS = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A kind of work, in words for messages.

    Attributes:
      doing: As in `building the tables`.
      slow_because: What usually makes it take too long.
    """

    doing: str
    slow_because: str


@dataclass(frozen=True)
class WorkLimits:
    """What one request to a worker may take.

    Attributes:
      max_seconds: Longest time; `max_build_seconds` to callers.
      max_memory_bytes: Most that it may add to the worker's resident memory; `max_build_memory_bytes`.
    """

    max_seconds: float
    max_memory_bytes: int

    async def exceeded(self, process: WorkerProcess, work: Work) -> tuple[str, LimitExceededError]:
        """Waits until the work that now begins exceeds a limit.

        Returns:
          `time_limit` or `memory_limit`, and the caller's error.
        """
        clock = asyncio.get_running_loop().time
        end, resident_bytes = clock() + self.max_seconds, process.resident_bytes
        while clock() < end:
            if process.resident_bytes - resident_bytes > self.max_memory_bytes:
                limit = self.max_memory_bytes
                message = f"{work.doing} took more than the server's max_build_memory_bytes of {limit}"
                return MEMORY_LIMIT, _limit_exceeded(message, "max_build_memory_bytes", limit)
            await asyncio.sleep(min(_MEMORY_POLL_SECONDS, max(end - clock(), 0)))
        limit_s = f"max_build_seconds of {self.max_seconds:g}"
        message = f"{work.doing} took longer than the server's {limit_s}: {work.slow_because}"
        return TIME_LIMIT, _limit_exceeded(message, "max_build_seconds", self.max_seconds)


async def once_more_if_lost(attempt: Callable[[], Awaitable[T]]) -> T:
    """Does work that changes nothing, and does it once more if its worker was lost.

    No more than once: two workers lost over the same work may have been lost to that work (docs/adr/0009).

    Raises:
      UnavailableError: WORKER_LOST, if the second worker was lost too.
    """
    try:
        return await attempt()
    except UnavailableError as error:
        if error.reason != WORKER_LOST:
            raise
    return await attempt()


def _limit_exceeded(message: str, limit: str, value: float) -> LimitExceededError:
    return LimitExceededError(message, metadata={"limit": limit, "value": f"{value:.12g}"})
