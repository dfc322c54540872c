"""Every metric of the server, with its unit and labels.

Invariants: no label holds a value that a caller chooses; metrics change on the event loop only, and a scrape
only reads them.

Metrics are plain numbers until they are scraped: prometheus_client's counters take a lock and several
function calls for each increment, which slows small requests (docs/notes/transport.md).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BUILD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)
_SYMBOLS = tuple(4.0**power for power in range(4, 14))
_UNITS = tuple(2.0**power for power in range(13))
_STEPS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_BITS = (*(-bits for bits in reversed(_STEPS)), 0.0, *_STEPS, 16.0)


class Distribution:
    """A histogram.

    Attributes:
      bounds: Upper bounds of all buckets but the last.
      counts: Observations in each bucket.
      total: Sum of all observations.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(eq=False)
class MethodMetrics:
    duration_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    calls_by_code: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(eq=False)
class OperationMetrics:
    symbols: int = 0
    uncompressed_bytes: int = 0
    compressed_bytes: int = 0
    queue_wait_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    batch_symbols: Distribution = field(default_factory=lambda: Distribution(_SYMBOLS))
    batch_units: Distribution = field(default_factory=lambda: Distribution(_UNITS))
    kernel_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))


class Metrics(Collector):
    """All metrics of a server; `collect` has the meaning and the labels of each.

    Attributes:
      roles: Those that the server has.
      worker_up: By device, returns whether its worker can take requests.
      queue_symbols: Returns the number of queued symbols.
      batching_stalled_seconds: Returns the time since a batch last ended, while work is queued.
    """

    def __init__(self, version: str, roles: Iterable[str] = ()) -> None:
        self._version = version
        self.roles = tuple(sorted(roles))
        self.methods: defaultdict[str, MethodMetrics] = defaultdict(MethodMetrics)
        self.operations = {name: OperationMetrics() for name in ("compress", "decompress", "perturb")}
        self.kind_symbols: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.stream_messages: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.inflight_requests = 0
        self.escaped_symbols = 0
        self.undecodable_units = 0
        self.mismatched_units = 0
        self.excess_bits = Distribution(_BITS)
        # At 0 from the start: Prometheus misses the first increment of a counter that did not exist.
        self.shed = defaultdict(int, queue_full=0, deadline=0, expired=0, stalled=0)
        self.models_loaded = 0
        self.model_cache_bytes = 0
        self.model_cache: dict[str, int] = {"hit": 0, "miss": 0}
        self.model_load_seconds = Distribution(_SECONDS)
        self.store_operations: Mapping[tuple[str, str], int] = {}
        self.table_build_seconds = Distribution(_BUILD_SECONDS)
        self.worker_restarts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.worker_up: dict[str, Callable[[], bool]] = {}
        self.reloads: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.certificate_expiry: Mapping[str, float] = {}
        self.queue_symbols: Callable[[], float] = lambda: 0
        self.batching_stalled_seconds: Callable[[], float] = lambda: 0

    def count_stalled(self) -> None:
        """Counts a call that was ended because its caller stalled it."""
        self.shed["stalled"] += 1

    def collect(self) -> Iterator[Metric]:
        """Yields every metric. Copies first, because the event loop goes on counting."""
        methods, operations = dict(self.methods), self.operations
        calls = {
            (method, code): n for method in methods for code, n in dict(methods[method].calls_by_code).items()
        }
        yield _counters("entropyd_requests", "Calls that ended.", calls, "method", "code")
        yield _counters(
            "entropyd_stream_messages",
            "Stream messages that were answered.",
            self.stream_messages,
            "method",
            "code",
        )
        yield _histograms(
            "entropyd_request_duration_seconds",
            "Time from the parsed request to the response.",
            {method: of_method.duration_seconds for method, of_method in methods.items()},
            "method",
        )
        yield GaugeMetricFamily("entropyd_inflight_requests", "Calls in flight.", self.inflight_requests)
        for name, text in (
            ("symbols", "Symbols coded."),
            ("uncompressed_bytes", "Bytes of arrays."),
            ("compressed_bytes", "Bytes of bit strings."),
        ):
            totals = {operation: getattr(coded, name) for operation, coded in operations.items()}
            yield _counters(f"entropyd_{name}", text, totals, "operation")
        yield _counters(
            "entropyd_kind_symbols",
            "Symbols coded, by the kind of their model.",
            self.kind_symbols,
            "operation",
            "kind",
        )
        for name, text in (
            ("queue_wait_seconds", "Time from a call's arrival in the queue to its first batch."),
            ("batch_symbols", "Symbols of a batch."),
            ("batch_units", "Coding units of a batch."),
            ("kernel_seconds", "Time to code a batch."),
        ):
            by_operation = {operation: getattr(coded, name) for operation, coded in operations.items()}
            yield _histograms(f"entropyd_{name}", text, by_operation, "operation")
        yield CounterMetricFamily(
            "entropyd_escaped_symbols", "Symbols outside their row, coded as escapes.", self.escaped_symbols
        )
        yield CounterMetricFamily(
            "entropyd_undecodable_units",
            "Coding units whose bit string could not be decoded or whose checksum did not match.",
            self.undecodable_units,
        )
        yield CounterMetricFamily(
            "entropyd_mismatched_units",
            "Coding units that callers would have decoded with other indexes than they were coded with.",
            self.mismatched_units,
        )
        yield _histograms(
            "entropyd_excess_bits",
            "Bits per symbol of a Compress call, minus what the tables expect for data of their prior. "
            "Data that vary less give values below 0. A lasting distance from 0 means drift.",
            {"": self.excess_bits},
        )
        yield GaugeMetricFamily("entropyd_queue_symbols", "Queued symbols.", self.queue_symbols())
        yield GaugeMetricFamily(
            "entropyd_batching_stalled_seconds",
            "Time since a batch last ended, while work is queued; 0 without queued work.",
            self.batching_stalled_seconds(),
        )
        yield _counters(
            "entropyd_shed", "Calls that were refused or dropped before coding.", self.shed, "reason"
        )
        yield from self._collect_models()
        yield _counters("entropyd_reloads", "Reloads of files that changed.", self.reloads, "files", "result")
        yield _gauges(
            "entropyd_certificate_expiry_timestamp_seconds",
            "When certificates expire, in seconds since 1970.",
            self.certificate_expiry,
            "file",
        )
        yield _gauges(
            "entropyd_role", "Always 1, for each role of the server.", dict.fromkeys(self.roles, 1.0), "role"
        )
        yield InfoMetricFamily("entropyd_build", "Version of the server.", {"version": self._version})

    def _collect_models(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("entropyd_models_loaded", "Models in memory.", self.models_loaded)
        yield GaugeMetricFamily(
            "entropyd_model_cache_bytes",
            "Memory of the cached models: configurations, tables, plans.",
            self.model_cache_bytes,
        )
        yield _counters(
            "entropyd_model_cache", "Look-ups of a model in the cache.", self.model_cache, "result"
        )
        yield _histograms(
            "entropyd_model_load_seconds",
            "Time to load a model from the store and check it.",
            {"": self.model_load_seconds},
        )
        yield _counters(
            "entropyd_store_operations",
            "Operations on the store that ended.",
            self.store_operations,
            "operation",
            "result",
        )
        yield _histograms(
            "entropyd_table_build_seconds",
            "Time to build the tables of a model.",
            {"": self.table_build_seconds},
        )
        yield _gauges(
            "entropyd_worker_up",
            "Whether the device's worker can take requests.",
            {device: float(is_up()) for device, is_up in self.worker_up.items()},
            "device",
        )
        yield _counters(
            "entropyd_worker_restarts", "Restarts of a worker.", self.worker_restarts, "device", "reason"
        )


def _counters(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    return _labelled(CounterMetricFamily(name, text, labels=labels), values)


def _gauges(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    return _labelled(GaugeMetricFamily(name, text, labels=labels), values)


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Any, float]) -> Metric:
    for label, value in dict(values).items():
        family.add_metric([label] if isinstance(label, str) else label, value)
    return family


def _histograms(name: str, text: str, by_label: dict[str, Distribution], *labels: str) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for value, distribution in by_label.items():
        below = accumulate(list(distribution.counts))
        bounds = [*map(str, distribution.bounds), "+Inf"]
        family.add_metric(
            [value] if labels else [], list(zip(bounds, below, strict=True)), distribution.total
        )
    return family
