"""Every metric of the server, with its unit and labels.

Owns the registry. It must not know how the figures come about. Invariant: no label holds a value that a
caller chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BUILD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


@dataclass(frozen=True)
class CodingFigures:
    """What one coding operation counts."""

    symbols: Counter
    uncompressed_bytes: Counter
    compressed_bytes: Counter

    def count(self, symbols: int, uncompressed_bytes: int, compressed_bytes: int) -> None:
        """Counts one call."""
        self.symbols.inc(symbols)
        self.uncompressed_bytes.inc(uncompressed_bytes)
        self.compressed_bytes.inc(compressed_bytes)


class Metrics:
    """The server's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "entropyd_requests", "Calls that ended.", ["method", "code"], registry=registry
        )
        self.request_duration_seconds = Histogram(
            "entropyd_request_duration_seconds",
            "Time from the parsed request to the answer.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.inflight_requests = Gauge(
            "entropyd_inflight_requests", "Calls that are being worked on.", registry=registry
        )
        self.symbols = Counter("entropyd_symbols", "Symbols coded.", ["operation"], registry=registry)
        self.uncompressed_bytes = Counter(
            "entropyd_uncompressed_bytes", "Bytes of arrays.", ["operation"], registry=registry
        )
        self.compressed_bytes = Counter(
            "entropyd_compressed_bytes", "Bytes of bit strings.", ["operation"], registry=registry
        )
        self.escaped_symbols = Counter(
            "entropyd_escaped_symbols", "Symbols coded outside their row.", registry=registry
        )
        self.models_loaded = Gauge(
            "entropyd_models_loaded", "Models whose tables are in memory.", registry=registry
        )
        self.model_load_seconds = Histogram(
            "entropyd_model_load_seconds",
            "Time to read and check a model of the store.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.model_cache = Counter(
            "entropyd_model_cache", "Look-ups of a model in memory.", ["result"], registry=registry
        )
        self.table_build_seconds = Histogram(
            "entropyd_table_build_seconds",
            "Time to build the tables of a model.",
            buckets=_BUILD_SECONDS,
            registry=registry,
        )
        self.worker_up = Gauge(
            "entropyd_worker_up", "Whether the device's worker answers.", ["device"], registry=registry
        )
        self.worker_restarts = Counter(
            "entropyd_worker_restarts",
            "Starts of a worker after its first.",
            ["device", "reason"],
            registry=registry,
        )
        self.build_info = Info("entropyd_build", "Version of the server.", registry=registry)

    def coding(self, operation: str) -> CodingFigures:
        """The figures of one operation, `compress` or `decompress`, their labels looked up once."""
        return CodingFigures(
            self.symbols.labels(operation),
            self.uncompressed_bytes.labels(operation),
            self.compressed_bytes.labels(operation),
        )

    def serve(self, address: str) -> None:
        """Answers scrapes on `HOST:PORT` from a thread of its own.

        Raises:
          OSError: If the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        start_http_server(int(port), host.strip("[]"), registry=self.registry)
