"""A batcher that tells how long each call waited and how long it was coded.

Owns the spans `queue` and `kernel`, children of the call's. It must not know how batches are made: it sees
what goes in and when it is coded. Invariant: the spans of a call end with it, also when it is never coded.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from entropyd_server.batching.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import Tracer

    from entropyd_server.batching.queue import BatchQueue, Key

W = TypeVar("W")
R = TypeVar("R")


@dataclass(frozen=True)
class _Coding:
    """Units of one call, coded between two times, in nanoseconds since the epoch, among `callers`."""

    begin_ns: int
    end_ns: int
    units: int
    callers: int


@dataclass(eq=False)
class _Visit:
    since_ns: int = field(default_factory=time.time_ns)
    codings: list[_Coding] = field(default_factory=list)


class TracedBatcher(Batcher[W, R]):
    """As Batcher, with a tracer before its arguments."""

    def __init__(
        self,
        tracer: Tracer,
        queue: BatchQueue[Any],
        code: Callable[[Any, Sequence[tuple[W, int, int]]], list[R]],
        **settings: Any,
    ) -> None:
        super().__init__(queue, self._timed(code), **settings)
        self._tracer = tracer
        # By the identity of the work, which its call keeps alive: threads that code know nothing else of it.
        self._visits: dict[int, _Visit] = {}

    async def submit(
        self, key: Key, work: W, *, units: int, unit_cost: int, timeout_s: float | None
    ) -> list[R]:
        """See base class."""
        visit = self._visits[id(work)] = _Visit()
        try:
            return await super().submit(key, work, units=units, unit_cost=unit_cost, timeout_s=timeout_s)
        finally:
            del self._visits[id(work)]
            self._trace(key, visit)

    def _timed(
        self, code: Callable[[Any, Sequence[tuple[W, int, int]]], list[R]]
    ) -> Callable[[Any, Sequence[tuple[W, int, int]]], list[R]]:
        def timed(key: Any, parts: Sequence[tuple[W, int, int]]) -> list[R]:
            begin_ns = time.time_ns()
            try:
                return code(key, parts)
            finally:
                end_ns = time.time_ns()
                for work, start, stop in parts:
                    if (visit := self._visits.get(id(work))) is not None:  # its caller may have left
                        visit.codings.append(_Coding(begin_ns, end_ns, stop - start, len(parts)))

        return timed

    def _trace(self, key: Key, visit: _Visit) -> None:
        operation = {"entropyd.operation": key.operation}
        codings = sorted(visit.codings, key=lambda coding: coding.begin_ns)
        queue = self._tracer.start_span("queue", attributes=operation, start_time=visit.since_ns)
        queue.end(codings[0].begin_ns if codings else None)
        for coding in codings:
            about: dict[str, str | int] = {
                **operation,
                "entropyd.units": coding.units,
                "entropyd.callers": coding.callers,
            }
            kernel = self._tracer.start_span("kernel", attributes=about, start_time=coding.begin_ns)
            kernel.end(coding.end_ns)
