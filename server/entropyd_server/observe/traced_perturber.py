"""A perturber that tells how long each call waited and how long it was computed.

Owns which moments of a perturber are which of `visits`. It must not know how calls are joined: it sees what
goes in and when it is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entropyd_server.modeling.perturber import Perturber, exchanged
from entropyd_server.observe.spans import Visits

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from entropyd_server.metrics import Metrics
    from entropyd_server.modeling.perturbation import Perturbed
    from entropyd_server.modeling.perturber import PerturbBatch, PerturbCall
    from entropyd_server.modeling.pool import WorkerPool
    from entropyd_server.modeling.supervisor import Exchange


class TracedPerturber(Perturber):
    """As Perturber, with a tracer before its arguments."""

    def __init__(self, tracer: Tracer, plane: WorkerPool, max_queue_symbols: int, metrics: Metrics) -> None:
        visits = self._visits = Visits(tracer)

        async def timed(exchange: Exchange, batch: PerturbBatch) -> Perturbed:
            parts = [(share.entry.work.call, share.stop - share.start) for share in batch.shares]
            with visits.kernel(parts):
                return await exchanged(exchange, batch)

        super().__init__(plane, max_queue_symbols, metrics, timed)

    async def perturb(self, call: PerturbCall, timeout_s: float | None) -> Perturbed:
        """See base class."""
        with self._visits.of(call, call.key.operation):
            return await super().perturb(call, timeout_s)
