"""Every metric of the server, with its unit and labels.

Invariants: no label holds a value that a caller chooses; metrics change on the event loop only, and a scrape
only reads them.

Metrics are plain numbers until they are scraped: prometheus_client's counters take a lock and several
function calls for each increment, which slows small requests (docs/adr/0006-batching.md).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

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
_BITS = (
    -8.0,
    -4.0,
    -2.0,
    -1.0,
    -0.5,
    -0.25,
    -0.1,
    -0.05,
    0.0,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
)


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
        """Counts an observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(eq=False)
class MethodMetrics:
    """Metrics of the calls of one method."""

    duration_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    calls_by_code: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(eq=False)
class OperationMetrics:
    """Metrics of one coding operation."""

    symbols: int = 0
    uncompressed_bytes: int = 0
    compressed_bytes: int = 0
    queue_wait_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    batch_symbols: Distribution = field(default_factory=lambda: Distribution(_SYMBOLS))
    batch_units: Distribution = field(default_factory=lambda: Distribution(_UNITS))
    kernel_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))


class Metrics(Collector):
    """All metrics of a server.

    Attributes:
      methods: By method name.
      operations: By operation: `compress`, `decompress` or `perturb`.
      stream_messages: Messages of streams that were answered, by method and code.
      inflight_requests: Calls in flight.
      escaped_symbols: Symbols coded outside their row.
      undecodable_units: Coding units whose bit string could not be decoded.
      excess_bits: Actual minus modelled bits per symbol of each Compress call.
      shed: Calls that were refused or dropped before coding, by reason.
      models_loaded: Models in memory.
      model_cache_bytes: Memory of these models.
      model_cache: Look-ups of a model in memory, by result.
      model_load_seconds: Times to load a model from the store.
      store_operations: Operations on the store that ended, by operation and result.
      table_build_seconds: Times to build the tables of a model.
      worker_restarts: Restarts of workers, by device and reason.
      worker_up: By device, returns whether its worker can take requests.
      reloads: Reloads of certificates and tokens, by files and result.
      certificate_expiry: When certificates expire, in seconds since 1970, by the flag that names their file.
      queue_symbols: Returns the number of queued symbols.
      batching_stalled_seconds: Returns the time since a batch last ended, while work is queued.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self.methods: defaultdict[str, MethodMetrics] = defaultdict(MethodMetrics)
        self.operations = {name: OperationMetrics() for name in ("compress", "decompress", "perturb")}
        self.stream_messages: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.inflight_requests = 0
        self.escaped_symbols = 0
        self.undecodable_units = 0
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
        """See base class. Copies first, because the event loop goes on counting."""
        methods, operations = dict(self.methods), self.operations
        calls = CounterMetricFamily("entropyd_requests", "Calls that ended.", labels=["method", "code"])
        for method, of_method in methods.items():
            for code, count in dict(of_method.calls_by_code).items():
                calls.add_metric([method, code], count)
        yield calls
        messages = CounterMetricFamily(
            "entropyd_stream_messages", "Stream messages that were answered.", labels=["method", "code"]
        )
        for labels, count in dict(self.stream_messages).items():
            messages.add_metric(list(labels), count)
        yield messages
        yield _histograms(
            "entropyd_request_duration_seconds",
            "Time from the parsed request to the response.",
            "method",
            {method: of_method.duration_seconds for method, of_method in methods.items()},
        )
        yield GaugeMetricFamily("entropyd_inflight_requests", "Calls in flight.", self.inflight_requests)
        for name, text in (
            ("symbols", "Symbols coded."),
            ("uncompressed_bytes", "Bytes of arrays."),
            ("compressed_bytes", "Bytes of bit strings."),
        ):
            counters = CounterMetricFamily(f"entropyd_{name}", text, labels=["operation"])
            for operation, coded in operations.items():
                counters.add_metric([operation], getattr(coded, name))
            yield counters
        for name, text in (
            ("queue_wait_seconds", "Time from a call's arrival in the queue to its first batch."),
            ("batch_symbols", "Symbols of a batch."),
            ("batch_units", "Coding units of a batch."),
            ("kernel_seconds", "Time to code a batch."),
        ):
            by_operation = {operation: getattr(coded, name) for operation, coded in operations.items()}
            yield _histograms(f"entropyd_{name}", text, "operation", by_operation)
        yield CounterMetricFamily(
            "entropyd_escaped_symbols", "Symbols outside their row, coded as escapes.", self.escaped_symbols
        )
        yield CounterMetricFamily(
            "entropyd_undecodable_units",
            "Coding units whose bit string could not be decoded or whose checksum did not match.",
            self.undecodable_units,
        )
        yield _histograms(
            "entropyd_excess_bits",
            "Bits per symbol of a Compress call, minus what the tables expect for data of their prior. "
            "Data that vary less give values below 0. A lasting distance from 0 means drift.",
            None,
            {"": self.excess_bits},
        )
        yield from self._collect_queue()
        yield from self._collect_models()
        reloads = CounterMetricFamily(
            "entropyd_reloads", "Reloads of files that changed.", labels=["files", "result"]
        )
        for labels, count in dict(self.reloads).items():
            reloads.add_metric(list(labels), count)
        yield reloads
        expiry = GaugeMetricFamily(
            "entropyd_certificate_expiry_timestamp_seconds",
            "When certificates expire, in seconds since 1970.",
            labels=["file"],
        )
        for name, seconds in self.certificate_expiry.items():
            expiry.add_metric([name], seconds)
        yield expiry
        yield InfoMetricFamily("entropyd_build", "Version of the server.", {"version": self._version})

    def _collect_queue(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("entropyd_queue_symbols", "Queued symbols.", self.queue_symbols())
        yield GaugeMetricFamily(
            "entropyd_batching_stalled_seconds",
            "Time since a batch last ended, while work is queued; 0 without queued work.",
            self.batching_stalled_seconds(),
        )
        shed = CounterMetricFamily(
            "entropyd_shed", "Calls that were refused or dropped before coding.", labels=["reason"]
        )
        for reason, count in dict(self.shed).items():
            shed.add_metric([reason], count)
        yield shed

    def _collect_models(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("entropyd_models_loaded", "Models in memory.", self.models_loaded)
        yield GaugeMetricFamily(
            "entropyd_model_cache_bytes",
            "Memory of the cached models: configurations, tables, plans.",
            self.model_cache_bytes,
        )
        cache = CounterMetricFamily(
            "entropyd_model_cache", "Look-ups of a model in the cache.", labels=["result"]
        )
        for result, count in self.model_cache.items():
            cache.add_metric([result], count)
        yield cache
        yield _histograms(
            "entropyd_model_load_seconds",
            "Time to load a model from the store and check it.",
            None,
            {"": self.model_load_seconds},
        )
        stored = CounterMetricFamily(
            "entropyd_store_operations", "Operations on the store that ended.", labels=["operation", "result"]
        )
        for labels, count in self.store_operations.items():
            stored.add_metric(list(labels), count)
        yield stored
        yield _histograms(
            "entropyd_table_build_seconds",
            "Time to build the tables of a model.",
            None,
            {"": self.table_build_seconds},
        )
        up = GaugeMetricFamily(
            "entropyd_worker_up", "Whether the device's worker can take requests.", labels=["device"]
        )
        for device, is_up in self.worker_up.items():
            up.add_metric([device], float(is_up()))
        yield up
        restarts = CounterMetricFamily(
            "entropyd_worker_restarts", "Restarts of a worker.", labels=["device", "reason"]
        )
        for labels, count in dict(self.worker_restarts).items():
            restarts.add_metric(list(labels), count)
        yield restarts


def _histograms(
    name: str, text: str, label: str | None, by_label: dict[str, Distribution]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=[label] if label else [])
    for value, distribution in by_label.items():
        below = accumulate(list(distribution.counts))
        bounds = [*(str(bound) for bound in distribution.bounds), "+Inf"]
        buckets = list(zip(bounds, below, strict=True))
        family.add_metric([value] if label else [], buckets, distribution.total)
    return family
