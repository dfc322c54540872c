"""Composition root: builds a server from settings, serves, drains.

Owns which parts a server has and the order in which they start and stop. Invariant: health says SERVING only
after the kernels are compiled, the store has answered and, for the modeling role, the worker is up; what was
accepted before the end is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health as health_service
from grpc_reflection.v1alpha import reflection

from entropyd.contract.errors import UnavailableError
from entropyd.v1 import coding_pb2, coding_pb2_grpc, info_pb2, info_pb2_grpc, model_pb2, model_pb2_grpc
from entropyd_server.coding import codec
from entropyd_server.metrics import Metrics
from entropyd_server.modeling.supervisor import WorkerSupervisor
from entropyd_server.rpc.coding_service import CodingService
from entropyd_server.rpc.compute import CodecThreads
from entropyd_server.rpc.creation import ModelCreator
from entropyd_server.rpc.health import Health
from entropyd_server.rpc.info_service import InfoService
from entropyd_server.rpc.interceptors import Boundary
from entropyd_server.rpc.library import ModelLibrary
from entropyd_server.rpc.limits import Limits
from entropyd_server.rpc.model_service import ModelService
from entropyd_server.store.model_store import ModelStore

if TYPE_CHECKING:
    from entropyd_server.settings import Settings

log = logging.getLogger(__name__)

CODING = coding_pb2.DESCRIPTOR.services_by_name["CodingService"].full_name
MODELING = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
INFO = info_pb2.DESCRIPTOR.services_by_name["InfoService"].full_name

# What a message may be above max_message_bytes: shapes, ids and lengths around the array.
_ENVELOPE_BYTES = 8 * 1024 * 1024
_STORE_RETRY_S = 1.0
# Calls in hand at the end of the drain time may take this long.
_GRACE_SECONDS = 30.0


class StartError(Exception):
    """The server cannot start; the message says what to change."""


@dataclass(frozen=True)
class _Parts:
    """The parts of a server that start late or must be closed; None where the role is not served."""

    server: grpc.aio.Server
    health: Health
    store: ModelStore
    threads: CodecThreads | None
    worker: WorkerSupervisor | None


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.

    Raises:
      StartError: If an address cannot be bound.
    """
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    started = time.perf_counter()
    metrics = Metrics()
    metrics.build_info.info({"version": version("entropyd")})
    if settings.metrics_listen:
        try:
            metrics.serve(settings.metrics_listen)
        except OSError as error:
            raise StartError(f"cannot serve metrics on {settings.metrics_listen}: {error}") from error
    parts = await _build(settings, metrics)
    stop, hurry = _signals()
    await parts.server.start()
    log.info("listening on %s with roles %s", settings.listen, ", ".join(sorted(settings.roles)))
    starting = asyncio.create_task(_start(parts, started))
    # A start that fails ends the server: it must not wait unready for ever.
    starting.add_done_callback(lambda task: stop.set() if _failed(task) else None)
    await stop.wait()
    log.info("draining for %g s", settings.drain_seconds)
    starting.cancel()
    await parts.health.drain()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), settings.drain_seconds)
    await parts.server.stop(0 if hurry.is_set() else _GRACE_SECONDS)
    if parts.worker is not None:
        await parts.worker.close()
    if parts.threads is not None:
        parts.threads.close()
    if _failed(starting):
        await starting
    log.info("stopped")


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _build(settings: Settings, metrics: Metrics) -> _Parts:
    limits = Limits(
        max_message_bytes=settings.max_message_bytes,
        max_model_bytes=settings.max_model_bytes,
        max_build_seconds=settings.max_build_seconds,
    )
    services = [CODING] if "coding" in settings.roles else []
    services += [MODELING] if "modeling" in settings.roles else []
    health = Health(services)
    transport_bytes = settings.max_message_bytes + _ENVELOPE_BYTES
    server = grpc.aio.server(
        interceptors=[Boundary(metrics, health.unready)],
        options=[
            ("grpc.max_receive_message_length", transport_bytes),
            ("grpc.max_send_message_length", transport_bytes),
            # With it, a second server would silently share the port.
            ("grpc.so_reuseport", 0),
        ],
    )
    store = ModelStore(settings.store)
    library = ModelLibrary(store, settings.max_cache_bytes, metrics)
    threads = worker = None
    if "coding" in settings.roles:
        threads = CodecThreads(settings.codec_threads)
        coding = CodingService(library, threads, limits, metrics)
        coding_pb2_grpc.add_CodingServiceServicer_to_server(coding, server)
    if "modeling" in settings.roles:
        worker = _worker(settings, metrics)
        models = ModelService(store, library, ModelCreator(store, library, worker, limits, metrics), limits)
        model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    devices = [] if worker is None else [worker.device]
    info = InfoService(version("entropyd"), sorted(settings.roles), devices, limits)
    info_pb2_grpc.add_InfoServiceServicer_to_server(info, server)
    await health.register(server)
    reflected = [*services, INFO, health_service.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(reflected, server)
    try:
        server.add_insecure_port(settings.listen)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {settings.listen}: is another server there?") from error
    return _Parts(server, health, store, threads, worker)


def _worker(settings: Settings, metrics: Metrics) -> WorkerSupervisor:
    device = "cpu"
    restarts = metrics.worker_restarts
    worker = WorkerSupervisor(
        device=device,
        max_build_seconds=settings.max_build_seconds,
        max_build_memory_bytes=settings.max_build_memory_bytes,
        max_model_bytes=settings.max_model_bytes,
        on_restart=lambda reason: restarts.labels(device, reason).inc(),
    )
    metrics.worker_up.labels(device).set_function(lambda: float(worker.ready))
    return worker


async def _start(parts: _Parts, started: float) -> None:
    """Brings every role to SERVING, the coding role without waiting for the other."""
    starts = []
    if parts.threads is not None:
        starts.append(_start_coding(parts, started))
    if parts.worker is not None:
        starts.append(_start_modeling(parts, parts.worker, started))
    await asyncio.gather(*starts)


async def _start_coding(parts: _Parts, started: float) -> None:
    await asyncio.to_thread(codec.warm_up)
    await _store_answers(parts.store)
    await parts.health.serving(CODING)
    log.info("%s is SERVING after %.1f s", CODING, time.perf_counter() - started)


async def _start_modeling(parts: _Parts, worker: WorkerSupervisor, started: float) -> None:
    await worker.start()
    await worker.wait_ready()
    await _store_answers(parts.store)
    await parts.health.serving(MODELING)
    log.info("%s is SERVING after %.1f s", MODELING, time.perf_counter() - started)


async def _store_answers(store: ModelStore) -> None:
    while True:
        try:
            return await store.probe()
        except UnavailableError:
            log.warning("the store does not answer; asking again in %g s", _STORE_RETRY_S)
            await asyncio.sleep(_STORE_RETRY_S)


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events that the first and the second signal to stop set."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop, hurry
