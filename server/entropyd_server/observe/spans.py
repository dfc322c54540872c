"""How long calls waited and how long they were computed, where calls are computed together.

Owns the spans `queue` and `kernel`, children of the call's. It must not know what is computed or who is
computed with whom. Invariant: the spans of a call end with it, also when it is never computed.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.trace import Tracer


@dataclass(frozen=True)
class _Coding:
    """Units of one call, computed between two times, in nanoseconds since the epoch, among `callers`."""

    begin_ns: int
    end_ns: int
    units: int
    callers: int


@dataclass(eq=False)
class _Visit:
    since_ns: int = field(default_factory=time.time_ns)
    codings: list[_Coding] = field(default_factory=list)


class Visits:
    """Calls that wait or are computed."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        # By the identity of the work, which its call keeps alive: threads that code know nothing else of it.
        self._visits: dict[int, _Visit] = {}

    @contextmanager
    def of(self, work: object, operation: str) -> Iterator[None]:
        """The stay of a call, in whose context this is; `work` is its own and nobody else's."""
        visit = self._visits[id(work)] = _Visit()
        try:
            yield
        finally:
            del self._visits[id(work)]
            self._trace(visit, operation)

    @contextmanager
    def kernel(self, parts: Sequence[tuple[object, int]]) -> Iterator[None]:
        """The time in which parts are computed, on any thread: the work of each, and how many units of it."""
        begin_ns = time.time_ns()
        try:
            yield
        finally:
            end_ns = time.time_ns()
            for work, units in parts:
                if (visit := self._visits.get(id(work))) is not None:  # its caller may have left
                    visit.codings.append(_Coding(begin_ns, end_ns, units, len(parts)))

    def _trace(self, visit: _Visit, operation: str) -> None:
        codings = sorted(visit.codings, key=lambda coding: coding.begin_ns)
        about: dict[str, str | int] = {"entropyd.operation": operation}
        queue = self._tracer.start_span("queue", attributes=about, start_time=visit.since_ns)
        queue.end(codings[0].begin_ns if codings else None)
        for coding in codings:
            of_units = {**about, "entropyd.units": coding.units, "entropyd.callers": coding.callers}
            kernel = self._tracer.start_span("kernel", attributes=of_units, start_time=coding.begin_ns)
            kernel.end(coding.end_ns)
