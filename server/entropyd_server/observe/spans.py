"""The spans within a call's own: how long it was queued, and how long its units ran.

Invariant: the spans of a call are complete before the call's own span ends, also if its units never run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from entropyd_server.batching.queue import Batch, Entry, Key

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class _Run(NamedTuple):
    """Units of one caller that ran in a batch of `callers`."""

    started_at: float
    ended_at: float
    units: int
    callers: int


class BatchSpans:
    """A BatchObserver that makes a span `queue` and spans `kernel` for each call."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._runs: dict[Entry[Any], list[_Run]] = {}

    def refused(self, reason: str) -> None:
        """Makes no span."""

    def ran_inline(self, key: Key, units: int, symbols: int, started_at: float, ended_at: float) -> None:  # noqa: ARG002
        self._trace(key, started_at, [_Run(started_at, ended_at, units, callers=1)])

    def ran(self, batch: Batch[Any], started_at: float, ended_at: float) -> None:
        for share in batch.shares:
            if not share.entry.removed:  # else its caller has cancelled
                run = _Run(started_at, ended_at, share.stop - share.start, len(batch.shares))
                self._runs.setdefault(share.entry, []).append(run)

    def settled(self, entry: Entry[Any]) -> None:
        self._trace(entry.key, entry.queued_at, sorted(self._runs.pop(entry, [])))

    def _trace(self, key: Key, queued_at: float, runs: list[_Run]) -> None:
        about: dict[str, str | int] = {
            "entropyd.operation": key.operation.name,
            "entropyd.kind": key.kind,
        }
        spans = _Spans(self._tracer)
        spans.add("queue", about, queued_at, runs[0].started_at if runs else time.monotonic())
        for run in runs:
            of_units = {**about, "entropyd.units": run.units, "entropyd.callers": run.callers}
            spans.add("kernel", of_units, run.started_at, run.ended_at)


class LeaseSpans:
    """A LeaseObserver that makes a span `queue` and one with the name of the work for each lease."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(
        self, work: str, device: str, queued_at: float, started_at: float | None, ended_at: float
    ) -> None:
        about = {"entropyd.device": device}
        spans = _Spans(self._tracer)
        spans.add("queue", about, queued_at, ended_at if started_at is None else started_at)
        if started_at is not None:
            spans.add(work, about, started_at, ended_at)


class _Spans:
    """Spans that have ended, children of the current one; their times are those of `time.monotonic`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def add(self, name: str, attributes: Mapping[str, str | int], started_at: float, ended_at: float) -> None:
        span = self._tracer.start_span(name, attributes=attributes, start_time=self._ns(started_at))
        span.end(self._ns(ended_at))

    def _ns(self, at: float) -> int:
        return self._epoch_ns + round(at * 1e9)
