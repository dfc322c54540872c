"""Counts queues and batches in the server's metrics."""

from __future__ import annotations

from typing import Any

from entropyd_server.batching.queue import Batch, Entry, Key
from entropyd_server.metrics import Metrics


class BatchMetrics:
    """A BatchObserver that counts in `metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._shed = metrics.shed
        self._operations = metrics.operations
        self._kind_symbols = metrics.kind_symbols

    def refused(self, reason: str) -> None:
        self._shed[reason] += 1

    def ran_inline(self, key: Key, units: int, symbols: int, started_at: float, ended_at: float) -> None:
        metrics = self._operations[key.operation.name]
        metrics.queue_wait_seconds.observe(0.0)
        metrics.batch_symbols.observe(symbols)
        metrics.batch_units.observe(units)
        metrics.kernel_seconds.observe(ended_at - started_at)

    def ran(self, batch: Batch[Any], started_at: float, ended_at: float) -> None:
        metrics = self._operations[batch.key.operation.name]
        for share in batch.shares:
            if share.start == 0:
                metrics.queue_wait_seconds.observe(started_at - share.entry.queued_at)
        metrics.batch_symbols.observe(batch.symbols)
        metrics.batch_units.observe(batch.units)
        metrics.kernel_seconds.observe(ended_at - started_at)

    def settled(self, entry: Entry[Any]) -> None:
        """Counts nothing."""


class PerturbMetrics(BatchMetrics):
    """As BatchMetrics; counts symbols too, which CodingService counts for its operations."""

    def ran(self, batch: Batch[Any], started_at: float, ended_at: float) -> None:
        super().ran(batch, started_at, ended_at)
        name = batch.key.operation.name
        self._operations[name].symbols += batch.symbols
        self._kind_symbols[name, batch.key.kind] += batch.symbols
