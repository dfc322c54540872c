"""How much time and memory one request to a worker may take, and the errors beyond that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entropyd_server.errors import limit_exceeded

if TYPE_CHECKING:
    from entropyd.contract.errors import LimitExceededError
    from entropyd_server.modeling.process import WorkerProcess

TIME_LIMIT = "time_limit"
MEMORY_LIMIT = "memory_limit"
_MEMORY_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Work:
    """A kind of work, in words."""

    name: str  # in spans, as in `build`
    doing: str  # in messages, as in `building the tables`
    slow_because: str  # the usual reason that it exceeds the time limit


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
        """Waits until the work that now starts exceeds a limit; returns which one, and the caller's error."""
        clock = asyncio.get_running_loop().time
        end, resident_bytes = clock() + self.max_seconds, process.resident_bytes
        while clock() < end:
            if process.resident_bytes - resident_bytes > self.max_memory_bytes:
                found = f"{work.doing} took more than"
                return MEMORY_LIMIT, limit_exceeded(found, "max_build_memory_bytes", self.max_memory_bytes)
            await asyncio.sleep(min(_MEMORY_POLL_SECONDS, max(end - clock(), 0)))
        found, cause = f"{work.doing} took longer than", f": {work.slow_because}"
        return TIME_LIMIT, limit_exceeded(found, "max_build_seconds", self.max_seconds, cause)
