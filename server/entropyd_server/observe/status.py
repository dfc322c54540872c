"""Gathers what the status page shows from a running server.

Invariant: gathering changes nothing and may happen on any thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from entropyd_server.metrics import Metrics
from entropyd_server.observe.call_log import CallLog, Failure
from entropyd_server.observe.rates import INTERVAL_SECONDS, Minute, Rates, Reading


@dataclass(frozen=True)
class Worker:
    """A modeling worker: its name, whether it can take requests, and its restarts by reason."""

    name: str
    up: bool
    restarts: Mapping[str, int]


@dataclass(frozen=True)
class Status:
    """A server at one moment.

    Attributes:
      services: State of each service, by its full name.
      rates: Over the last minute.
      workers: Modeling workers; none without the role.
      failures: The last failures that were logged, newest first.
    """

    version: str
    uptime_seconds: float
    services: Mapping[str, str]
    metrics: Metrics
    rates: Rates
    workers: Sequence[Worker]
    failures: Sequence[Failure]


class StatusSource:
    """Gathers a server's status.

    Attributes:
      services: Returns the state of each service, by its full name.
    """

    def __init__(self, version: str, metrics: Metrics, call_log: CallLog) -> None:
        self._version = version
        self._metrics = metrics
        self._call_log = call_log
        self._started = time.monotonic()
        self._minute = Minute(Reading.of(metrics, self._started))
        self.services: Callable[[], Mapping[str, str]] = dict

    async def keep_reading(self) -> None:
        """Reads the metrics every few seconds, for the rates of the last minute."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            self._minute.add(Reading.of(self._metrics, time.monotonic()))

    def status(self) -> Status:
        metrics, now = self._metrics, time.monotonic()
        restarts = dict(metrics.worker_restarts)
        return Status(
            version=self._version,
            uptime_seconds=now - self._started,
            services=self.services(),
            metrics=metrics,
            rates=self._minute.rates(Reading.of(metrics, now)),
            workers=[
                Worker(name, up(), {why: n for (device, why), n in restarts.items() if n and device == name})
                for name, up in metrics.worker_up.items()
            ],
            failures=tuple(self._call_log.last),
        )
