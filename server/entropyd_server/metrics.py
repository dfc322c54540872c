"""Every metric of the server, with its unit and labels.

Owns the figures and their names. It must not know how they come about. Invariants: no label holds a value
that a caller chooses; figures change in turns of the event loop only, and a scrape only reads them.

The figures are plain numbers, rendered when they are scraped: prometheus_client's own counters take a lock
and several calls for each increment, which a small request feels (docs/adr/0006-batching.md).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import Metric

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
    """A histogram: how many observations fell below each bound, and their sum."""

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
class MethodFigures:
    """What the calls of one method show."""

    duration_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    calls_by_code: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(eq=False)
class OperationFigures:
    """What one coding operation shows."""

    symbols: int = 0
    uncompressed_bytes: int = 0
    compressed_bytes: int = 0
    queue_wait_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    batch_symbols: Distribution = field(default_factory=lambda: Distribution(_SYMBOLS))
    batch_units: Distribution = field(default_factory=lambda: Distribution(_UNITS))
    kernel_seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))


class Metrics(Collector):
    """The server's figures.

    Attributes:
      methods: By method name.
      operations: By operation: `compress`, `decompress` or `perturb`.
      stream_messages: Messages of streams that were answered, by method and code.
      inflight_requests: Calls that are being worked on.
      escaped_symbols: Symbols coded outside their row.
      undecodable_units: Coding units whose bit string could not be decoded.
      excess_bits: Of each Compress, actual less modelled bits per symbol.
      shed: Calls refused or dropped before coding, by reason.
      models_loaded: Models in memory.
      model_cache_bytes: What they hold.
      model_cache: Look-ups of a model in memory, by result.
      model_load_seconds: Times to read and check a model of the store.
      store_operations: Operations on the store that ended, by operation and result.
      table_build_seconds: Times to build the tables of a model.
      worker_restarts: Starts of a worker after its first, by device and reason.
      worker_up: By device, what tells whether its worker answers.
      reloads: Certificates and tokens read anew, by what and result.
      certificate_expiry: When certificates end, in seconds since 1970, by the flag that names their file.
      queue_symbols: Tells how many symbols wait.
      batching_stalled_seconds: Tells how long no batch has ended while there is work.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self.methods: defaultdict[str, MethodFigures] = defaultdict(MethodFigures)
        self.operations = {name: OperationFigures() for name in ("compress", "decompress", "perturb")}
        self.stream_messages: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.inflight_requests = 0
        self.escaped_symbols = 0
        self.undecodable_units = 0
        self.excess_bits = Distribution(_BITS)
        # Shown before they happen: nobody sees a first increment of what was not there.
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
        """Counts a call that is ended because it waited for its caller."""
        self.shed["stalled"] += 1

    def collect(self) -> Iterator[Metric]:
        """See base class. Copies before it renders: the server goes on counting."""
        methods, operations = dict(self.methods), self.operations
        calls = CounterMetricFamily("entropyd_requests", "Calls that ended.", labels=["method", "code"])
        for method, figures in methods.items():
            for code, count in dict(figures.calls_by_code).items():
                calls.add_metric([method, code], count)
        yield calls
        messages = CounterMetricFamily(
            "entropyd_stream_messages", "Messages of streams that were answered.", labels=["method", "code"]
        )
        for labels, count in dict(self.stream_messages).items():
            messages.add_metric(list(labels), count)
        yield messages
        yield _histograms(
            "entropyd_request_duration_seconds",
            "Time from the parsed request to the answer.",
            "method",
            {method: figures.duration_seconds for method, figures in methods.items()},
        )
        yield GaugeMetricFamily(
            "entropyd_inflight_requests", "Calls that are being worked on.", self.inflight_requests
        )
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
            ("queue_wait_seconds", "Time from a call's arrival in the queue to its first coding."),
            ("batch_symbols", "Symbols coded together."),
            ("batch_units", "Coding units coded together."),
            ("kernel_seconds", "Time to code a batch."),
        ):
            by_operation = {operation: getattr(coded, name) for operation, coded in operations.items()}
            yield _histograms(f"entropyd_{name}", text, "operation", by_operation)
        yield CounterMetricFamily(
            "entropyd_escaped_symbols", "Symbols coded outside their row.", self.escaped_symbols
        )
        yield CounterMetricFamily(
            "entropyd_undecodable_units",
            "Coding units whose bit string could not be decoded, or whose checksum failed.",
            self.undecodable_units,
        )
        yield _histograms(
            "entropyd_excess_bits",
            "Bits per symbol of a Compress call, less what the tables expect of data that their prior "
            "describes; below 0 where the data vary less. Lasting distance from 0 is drift.",
            None,
            {"": self.excess_bits},
        )
        yield from self._collect_queue()
        yield from self._collect_models()
        reloads = CounterMetricFamily(
            "entropyd_reloads", "Files that changed and were read anew.", labels=["files", "result"]
        )
        for labels, count in dict(self.reloads).items():
            reloads.add_metric(list(labels), count)
        yield reloads
        expiry = GaugeMetricFamily(
            "entropyd_certificate_expiry_timestamp_seconds",
            "When certificates end, in seconds since 1970.",
            labels=["file"],
        )
        for name, seconds in self.certificate_expiry.items():
            expiry.add_metric([name], seconds)
        yield expiry
        yield InfoMetricFamily("entropyd_build", "Version of the server.", {"version": self._version})

    def _collect_queue(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("entropyd_queue_symbols", "Symbols that wait.", self.queue_symbols())
        yield GaugeMetricFamily(
            "entropyd_batching_stalled_seconds",
            "Time since a batch ended while there is work; 0 without any.",
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
            "Memory of all models that are in it: configurations, tables, plans.",
            self.model_cache_bytes,
        )
        cache = CounterMetricFamily(
            "entropyd_model_cache", "Look-ups of a model in memory.", labels=["result"]
        )
        for result, count in self.model_cache.items():
            cache.add_metric([result], count)
        yield cache
        yield _histograms(
            "entropyd_model_load_seconds",
            "Time to read and check a model of the store.",
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
            "entropyd_worker_up", "Whether the device's worker answers.", labels=["device"]
        )
        for device, answers in self.worker_up.items():
            up.add_metric([device], float(answers()))
        yield up
        restarts = CounterMetricFamily(
            "entropyd_worker_restarts", "Starts of a worker after its first.", labels=["device", "reason"]
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
