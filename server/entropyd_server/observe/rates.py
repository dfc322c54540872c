"""Rates of the last minute, from readings of the metrics.

Invariant: rates cover about a minute, or the whole life of a younger server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from entropyd_server.metrics import Metrics

INTERVAL_SECONDS = 5.0
_MINUTE_SECONDS = 60.0


class Coded(NamedTuple):
    """Totals of one coding operation."""

    symbols: int
    uncompressed_bytes: int
    compressed_bytes: int


@dataclass(frozen=True)
class Reading:
    """Totals at a time.

    Attributes:
      at: The time, in seconds.
      calls: Calls that ended, by method and code.
      durations: Calls by method and bucket of their duration.
      bounds: Upper bounds of those buckets, in seconds; the last bucket has none.
      coded: By operation.
    """

    at: float
    calls: dict[str, dict[str, int]]
    durations: dict[str, tuple[int, ...]]
    bounds: tuple[float, ...]
    coded: dict[str, Coded]

    @classmethod
    def of(cls, metrics: Metrics, now: float) -> Reading:
        """Reads the metrics; on any thread, while they change."""
        methods = dict(metrics.methods)
        durations = {name: method.duration_seconds for name, method in methods.items()}
        return cls(
            now,
            {name: dict(method.calls_by_code) for name, method in methods.items()},
            {name: tuple(duration.counts) for name, duration in durations.items()},
            next((duration.bounds for duration in durations.values()), ()),
            {
                name: Coded(operation.symbols, operation.uncompressed_bytes, operation.compressed_bytes)
                for name, operation in metrics.operations.items()
            },
        )


@dataclass(frozen=True)
class MethodRates:
    """Rates of one method.

    Attributes:
      failed: Number of calls that ended with an error.
      median_seconds, p99_seconds: Quantiles of the duration; None without calls.
      median_beyond, p99_beyond: Whether the quantile lies above the last bound, which replaces it.
      total: Calls since the server started.
    """

    calls_per_second: float
    failed: int
    median_seconds: float | None
    p99_seconds: float | None
    median_beyond: bool
    p99_beyond: bool
    total: int


@dataclass(frozen=True)
class OperationRates:
    """Rates of one coding operation; `ratio` and `bits_per_symbol` are None if nothing was coded."""

    symbols_per_second: float
    uncompressed_bytes_per_second: float
    ratio: float | None
    bits_per_symbol: float | None


@dataclass(frozen=True)
class Rates:
    """Rates over `seconds`, by method and by operation."""

    seconds: float
    methods: dict[str, MethodRates]
    operations: dict[str, OperationRates]


class Minute:
    def __init__(self, first: Reading) -> None:
        self._readings = deque([first])

    def add(self, reading: Reading) -> None:
        self._readings.append(reading)
        while reading.at - self._readings[1].at >= _MINUTE_SECONDS:
            self._readings.popleft()

    def rates(self, newest: Reading) -> Rates:
        """Returns the rates from about a minute ago until `newest`."""
        oldest = self._readings[0]
        seconds = max(newest.at - oldest.at, 1e-9)
        return Rates(
            seconds,
            {name: _method(name, oldest, newest, seconds) for name in newest.calls},
            {name: _operation(oldest.coded[name], coded, seconds) for name, coded in newest.coded.items()},
        )


def quantile(share: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Returns a quantile; None without observations. Interpolates linearly in a bucket, as Prometheus does.

    Args:
      share: The share of observations below the quantile, from 0 to 1.
      counts: Observations by bucket.
      bounds: Upper bounds of all buckets but the last.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    for (below, reached), (lower, upper), count in zip(
        pairwise([0, *accumulate(counts)]), pairwise([0.0, *bounds]), counts, strict=False
    ):
        if reached >= rank and count:
            return lower + (upper - lower) * (rank - below) / count
    return bounds[-1]


def lies_beyond(share: float, counts: Sequence[int]) -> bool:
    """Whether a quantile lies in the last bucket, which has no upper bound."""
    return sum(counts[:-1]) < share * sum(counts)


def _method(name: str, oldest: Reading, newest: Reading, seconds: float) -> MethodRates:
    before, calls = oldest.calls.get(name, {}), newest.calls[name]
    ended = {code: count - before.get(code, 0) for code, count in calls.items()}
    durations = newest.durations[name]
    earlier = oldest.durations.get(name, (0,) * len(durations))
    counts = [now - then for now, then in zip(durations, earlier, strict=True)]
    return MethodRates(
        sum(ended.values()) / seconds,
        sum(ended.values()) - ended.get("OK", 0),
        quantile(0.5, counts, newest.bounds),
        quantile(0.99, counts, newest.bounds),
        lies_beyond(0.5, counts),
        lies_beyond(0.99, counts),
        sum(calls.values()),
    )


def _operation(before: Coded, after: Coded, seconds: float) -> OperationRates:
    symbols, uncompressed_bytes, compressed_bytes = (b - a for a, b in zip(before, after, strict=True))
    return OperationRates(
        symbols / seconds,
        uncompressed_bytes / seconds,
        uncompressed_bytes / compressed_bytes if compressed_bytes else None,
        8 * compressed_bytes / symbols if symbols and compressed_bytes else None,
    )
