"""Turns at a worker that tell how long a call waited for theirs, and how long the worker took.

Owns the spans of calls that have a worker to themselves: `queue` and another, children of the call's. It must
not know what the worker does. Invariant: both end with the turn, however it ends; a turn that is taken in no
call's context makes none.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.trace import Tracer

    from entropyd_server.modeling.builder_pool import BuilderPool
    from entropyd_server.modeling.supervisor import Exchange, WorkerSupervisor


def trace_turns(tracer: Tracer, worker: WorkerSupervisor | BuilderPool, name: str) -> None:
    """Has each turn at a worker, or at one of a pool, make its spans, the second one under this name."""
    turn, about = worker.turn, {"entropyd.device": worker.device.name}

    @asynccontextmanager
    async def traced(*arguments: Any, **options: Any) -> AsyncIterator[Exchange]:
        since_ns, begin_ns = time.time_ns(), None
        try:
            async with turn(*arguments, **options) as exchange:
                begin_ns = time.time_ns()
                yield exchange
        finally:
            if get_current_span().get_span_context().is_valid:
                tracer.start_span("queue", attributes=about, start_time=since_ns).end(begin_ns)
                if begin_ns is not None:
                    tracer.start_span(name, attributes=about, start_time=begin_ns).end()

    setattr(worker, "turn", traced)  # noqa: B010 - an instance's own, around its class's
