"""Tells an observer how long callers wait for a worker, and how long they have it to themselves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from entropyd_server.modeling.limits import Work
from entropyd_server.modeling.supervisor import Exchange


class LeaseObserver(Protocol):
    """Hears of each lease at its end, in the caller's context; times are of `time.monotonic`."""

    def __call__(
        self, work: str, device: str, queued_at: float, started_at: float | None, ended_at: float
    ) -> None:
        """A lease ended, or the wait for it; then it never started."""


@asynccontextmanager
async def observed(
    lease: AbstractAsyncContextManager[Exchange], work: Work, device: str, observer: LeaseObserver | None
) -> AsyncIterator[Exchange]:
    """The lease, reported to the observer at its end."""
    queued_at, started_at = time.monotonic(), None
    try:
        async with lease as exchange:
            started_at = time.monotonic()
            yield exchange
    finally:
        if observer is not None:
            observer(work.name, device, queued_at, started_at, time.monotonic())
