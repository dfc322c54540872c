"""Reports to an observer how long callers wait for a worker and how long they use it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from entropyd_server.modeling.limits import Work
from entropyd_server.modeling.supervisor import Exchange

# Called at the end of each lease, in the caller's context: the work's name, the device, and when the
# caller was queued, got the worker (None: never) and ended, by `time.monotonic`.
LeaseObserver: TypeAlias = Callable[[str, str, float, "float | None", float], None]


@asynccontextmanager
async def observed(
    lease: AbstractAsyncContextManager[Exchange], work: Work, device: str, observer: LeaseObserver | None
) -> AsyncIterator[Exchange]:
    queued_at, started_at = time.monotonic(), None
    try:
        async with lease as exchange:
            started_at = time.monotonic()
            yield exchange
    finally:
        if observer is not None:
            observer(work.name, device, queued_at, started_at, time.monotonic())
