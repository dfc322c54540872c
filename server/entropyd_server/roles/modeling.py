"""The modeling role: the registry, and TensorFlow in worker processes that build, perturb and fit models."""

from __future__ import annotations

from functools import partial

from entropyd_server.modeling.fitter import Fitter
from entropyd_server.modeling.limits import WorkLimits
from entropyd_server.modeling.perturber import Perturber
from entropyd_server.modeling.pool import WorkerPool
from entropyd_server.modeling.supervisor import RESTART_REASONS
from entropyd_server.observe.batch_metrics import PerturbMetrics
from entropyd_server.observe.spans import LeaseSpans
from entropyd_server.roles.base import Role, Shared
from entropyd_server.roles.registry import MODEL_SERVICE, registry
from entropyd_server.rpc.model_service import ModelService


class ModelingRole(Role):
    """A pool of worker processes, one per device and some that build tables, behind ModelService."""

    service = MODEL_SERVICE

    def __init__(self, shared: Shared) -> None:
        self._vital = shared.vital
        on_lease = None if shared.tracing is None else LeaseSpans(shared.tracing.tracer)
        self._pool = pool = _worker_pool(shared, on_lease)
        observer = shared.observer(PerturbMetrics(shared.metrics))
        self.devices = pool.devices
        self.servicer = ModelService(
            **registry(shared, pool.builder),
            perturber=Perturber(pool, shared.settings.max_queue_symbols, observer),
            fitter=Fitter(pool, on_lease),
        )

    async def start(self) -> None:
        await self._pool.start(self._vital)
        await self._pool.wait_ready()

    async def drain(self) -> None:
        """Ends table builds and fits; their callers get UNAVAILABLE."""
        await self._pool.drain()

    async def close(self) -> None:
        await self._pool.close()


def _worker_pool(shared: Shared, on_lease: LeaseSpans | None) -> WorkerPool:
    settings, metrics = shared.settings, shared.metrics

    def restarted(worker: str, reason: str) -> None:
        metrics.worker_restarts[worker, reason] += 1

    pool = WorkerPool(
        settings.devices,
        builders=settings.builders,
        limits=WorkLimits(settings.max_build_seconds, settings.max_build_memory_bytes),
        max_model_bytes=settings.max_model_bytes,
        on_restart=restarted,
        on_lease=on_lease,
    )
    for name, worker in pool.workers.items():
        metrics.worker_up[name] = partial(getattr, worker, "up")
        metrics.worker_restarts.update({(name, reason): 0 for reason in RESTART_REASONS})
    return pool
