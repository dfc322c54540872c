"""Composition root: builds a server from settings, serves, drains.

Owns which parts a server has and the order in which they start and stop. Invariant: health says SERVING
only after the kernels are compiled, the store has answered and, for the modeling role, the workers are up;
what was accepted before the end is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar, cast

from grpc_health.v1 import health as health_service
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from entropyd.contract.errors import UnavailableError
from entropyd.v1 import coding_pb2, coding_pb2_grpc, info_pb2, info_pb2_grpc, model_pb2, model_pb2_grpc
from entropyd_server.batching.batcher import Batcher
from entropyd_server.batching.queue import BatchQueue
from entropyd_server.coding import self_test
from entropyd_server.descriptors import raise_limit
from entropyd_server.limits import Limits
from entropyd_server.malloc import keep_freed_memory
from entropyd_server.metrics import Metrics
from entropyd_server.modeling.fitter import Fitter
from entropyd_server.modeling.perturber import Perturber
from entropyd_server.modeling.pool import WorkerPool
from entropyd_server.modeling.supervisor import RESTART_REASONS
from entropyd_server.modeling.work import WorkLimits
from entropyd_server.models.cache import ModelCache
from entropyd_server.models.creation import ModelCreator
from entropyd_server.observe import pages
from entropyd_server.observe.call_log import CallLog
from entropyd_server.observe.status import StatusSource
from entropyd_server.rpc.admission import Admission, Gate, connection_share
from entropyd_server.rpc.boundary import Boundary
from entropyd_server.rpc.coding_service import CodingService, code
from entropyd_server.rpc.health import Health
from entropyd_server.rpc.info_service import InfoService
from entropyd_server.rpc.model_service import ModelService
from entropyd_server.rpc.reflection import Reflection
from entropyd_server.rpc.unknown import Unknown
from entropyd_server.security.access import ANYBODY
from entropyd_server.security.protection import Protection
from entropyd_server.security.reloading import FilesError
from entropyd_server.security.tokens import Scope
from entropyd_server.store.location import StoreError
from entropyd_server.store.model_store import ModelStore
from entropyd_server.transport.server import KEEPALIVE, Server
from entropyd_server.transport.stalls import Stalls
from entropyd_server.transport.turns import run
from entropyd_server.vital import Vital, end_within, prepare_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import ServiceDescriptor

    from entropyd_server.observe.tracing import Tracing
    from entropyd_server.settings import Settings
    from entropyd_server.transport.call import Call

S = TypeVar("S")

log = logging.getLogger(__name__)

CODING = coding_pb2.DESCRIPTOR.services_by_name["CodingService"]
MODELING = model_pb2.DESCRIPTOR.services_by_name["ModelService"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
INFO = info_pb2.DESCRIPTOR.services_by_name["InfoService"]

# What a message may be above max_message_bytes: shapes, ids and lengths around the array.
_ENVELOPE_BYTES = 8 * 1024 * 1024
# Connections whose calls may all wait to be looked at, each with as many as it may have.
_FULL_CONNECTIONS = 16
_STORE_RETRY_S = 1.0
# A batch takes seconds at the most; without an end for this long, something is wrong for good.
_STALLED_S = 30.0
_WATCH_S = 1.0
# No more than this is coded where its call is read, some 200 us of work: handing it to a thread costs about
# as much. What is decoded in company is decoded faster.
_INLINE_SYMBOLS = {"compress": 65536, "decompress": 16384}
# At the end of the drain time, calls are refused for this long: gRPC cancels those that reach a server which
# stops, and callers that are told to come again later are not among them.
_TURN_AWAY_S = 0.5
# Calls in hand at the end of the drain time may take this long.
_GRACE_SECONDS = 30.0
# After both, the server gets this long to end its parts; then the kernel ends it.
_CLOSING_SECONDS = 10.0
# A server that has lost something vital gets this long in all.
_FAILED_SECONDS = 5.0
# Of which this is for those who watch its health.
_TELL_SECONDS = 0.2
# gRPC's name for no time limit, in milliseconds.
_NO_END = 2**31 - 1


class StartError(Exception):
    """The server cannot start; the message says what to change."""


class ServerFailedError(Exception):
    """Something that the server cannot do without has failed; the log says what."""


@dataclass(frozen=True)
class _Parts:
    """The parts of a server that start late or must be closed; None where the role is not served."""

    server: Server
    protection: Protection
    admission: Admission
    health: Health
    store: ModelStore
    batcher: Batcher[Any, Any] | None
    plane: WorkerPool | None


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once. SIGHUP reloads files.

    Raises:
      StartError: If an address cannot be bound or the store cannot be opened.
      ServerFailedError: If something fails that the server cannot do without.
    """
    prepare_end()
    raise_limit()
    try:
        run(_serve(settings))
    except (StartError, ServerFailedError):
        raise
    except Exception as error:  # the event loop's own: what is left of the process ends, too
        Vital(partial(end_within, _FAILED_SECONDS)).fail("the event loop", error)
        raise ServerFailedError from error


async def _serve(settings: Settings) -> None:
    started = time.perf_counter()
    stop, hurry, reload = _signals(settings.drain_seconds + _GRACE_SECONDS + _CLOSING_SECONDS)
    loop = asyncio.get_running_loop()

    def give_up() -> None:
        end_within(_FAILED_SECONDS)
        loop.call_soon_threadsafe(stop.set)

    vital = Vital(give_up)
    metrics, calls = Metrics(version("entropyd")), CallLog()
    source = StatusSource(version("entropyd"), metrics, calls)
    if settings.metrics_listen:
        try:
            page = pages.serve(settings.metrics_listen, metrics, source.status, vital)
        except OSError as error:
            raise StartError(f"cannot serve metrics on {settings.metrics_listen}: {error}") from error
        log.info("status page on %s, metrics on %smetrics", page, page)
    tracing = _tracing(settings)
    parts = await _build(settings, metrics, calls, tracing, vital)
    source.services = lambda: parts.health.states
    probed = await _probed(settings.health_listen, parts.health, vital)
    await parts.server.start()
    log.info("listening on %s with roles %s", settings.listen, ", ".join(sorted(settings.roles)))
    starting = asyncio.create_task(_start(parts, started, vital))
    # A start that fails ends the server: it must not wait unready for ever.
    starting.add_done_callback(lambda task: stop.set() if _failed(task) else None)
    watching = [
        vital.task("watching the batcher", _watch(parts)),
        vital.task("reading the metrics", source.keep_reading()),
        vital.task("reloading files", parts.protection.watch(reload)),
        vital.task("ending stalled calls", _end_stalled(settings, parts, probed, metrics)),
    ]
    await stop.wait()
    await parts.health.drain()
    if vital.failed:
        await parts.health.alive(alive=False)
        await asyncio.sleep(_TELL_SECONDS)
        raise ServerFailedError
    log.info("draining for %g s", settings.drain_seconds)
    for task in (starting, *watching):
        task.cancel()
    await _drain(parts, hurry, settings.drain_seconds)
    await parts.server.stop(_pause(hurry, _GRACE_SECONDS))
    if probed is not None:
        await probed.stop(asyncio.sleep(0))
    if parts.plane is not None:
        await parts.plane.close()
    # Last those that take turns: workers end with the thread that started them.
    if parts.batcher is not None:
        await parts.batcher.close()
    for server in (parts.server, probed):
        if server is not None:
            await server.close()
    if tracing is not None:
        tracing.close()
    if _failed(starting):
        await starting
    log.info("stopped")


async def _drain(parts: _Parts, hurry: asyncio.Event, drain_seconds: float) -> None:
    """Ends builds and fits at once, and serves all else for as long as clients take to go elsewhere."""
    if parts.plane is not None:
        await parts.plane.drain()
    await _pause(hurry, drain_seconds - _TURN_AWAY_S)
    parts.health.turn_away()
    await _pause(hurry, min(drain_seconds, _TURN_AWAY_S))


async def _pause(hurry: asyncio.Event, seconds: float) -> None:
    """Waits that long, or until there is no time left for it."""
    with contextlib.suppress(asyncio.TimeoutError):  # not the built-in one before Python 3.11
        await asyncio.wait_for(hurry.wait(), seconds)


async def _watch(parts: _Parts) -> None:
    """Says that the process is not alive while coding makes no progress."""
    while parts.batcher is not None:
        stalled_s = parts.batcher.stalled_s
        if stalled_s > _STALLED_S:
            log.error("no batch has ended for %.0f s while there is work", stalled_s)
        await parts.health.alive(alive=stalled_s <= _STALLED_S)
        await asyncio.sleep(_WATCH_S)


async def _end_stalled(settings: Settings, parts: _Parts, probed: Server | None, metrics: Metrics) -> None:
    """Ends calls whose callers hold them up, on both addresses."""
    limit_s, admission = settings.receive_timeout_seconds, parts.admission

    watches = [Stalls(limit_s, metrics.count_stalled).watch(parts.server.calls, lambda: admission.full)]
    if probed is not None:
        watches.append(Stalls(limit_s, metrics.count_stalled).watch(probed.calls, lambda: False))
    await asyncio.gather(*watches)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _build(
    settings: Settings, metrics: Metrics, calls: CallLog, tracing: Tracing | None, vital: Vital
) -> _Parts:
    limits = Limits(
        max_message_bytes=settings.max_message_bytes,
        max_model_bytes=settings.max_model_bytes,
        max_build_seconds=settings.max_build_seconds,
        max_concurrent_calls=settings.max_concurrent_calls,
        max_models_per_caller=settings.max_models_per_caller,
    )
    try:
        protection = Protection(settings, metrics)
    except FilesError as error:
        raise StartError(str(error)) from error
    services = [CODING.full_name] if "coding" in settings.roles else []
    services += [MODELING.full_name] if "modeling" in settings.roles else []
    health = Health(services)
    boundary = Boundary(metrics, calls, health.unready)

    def enclose(servicer: S, service: ServiceDescriptor) -> S:
        boundary.enclose(servicer, service)
        return servicer if tracing is None else tracing.enclose(servicer, service)

    transport_bytes = settings.max_message_bytes + _ENVELOPE_BYTES
    most_waiting_calls = _FULL_CONNECTIONS * settings.max_concurrent_calls
    server = Server(
        options=[
            ("grpc.max_receive_message_length", transport_bytes),
            ("grpc.max_send_message_length", transport_bytes),
            # With it, a second server would silently share the port.
            ("grpc.so_reuseport", 0),
            # One connection's further calls wait on its own side.
            ("grpc.max_concurrent_streams", connection_share(settings.max_concurrent_calls)),
            # Of calls that wait to be looked at, gRPC would cancel some from 1000 on, without a word.
            ("grpc.server.max_pending_requests", most_waiting_calls),
            ("grpc.server.max_pending_requests_hard_limit", most_waiting_calls),
            ("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age_seconds)),
            *KEEPALIVE,
        ],
        vital=vital,
    )
    refuse = boundary.refuse if tracing is None else tracing.enclose_refusal(boundary.refuse)
    batcher = _batcher(settings, metrics, tracing, vital) if "coding" in settings.roles else None
    # Messages of a stream are refused one by one, by the batcher itself.
    admit = {
        f"/{CODING.full_name}/{method}": batcher.admit
        for method in ("Compress", "Decompress")
        if batcher is not None
    }
    admission = Admission(protection.access, settings.max_concurrent_calls, admit, metrics.count_stalled)
    gate = Gate(server, refuse, admission.refusal)
    try:
        store = ModelStore(settings.store, settings.store_timeout_seconds, limits.max_object_bytes)
    except StoreError as error:
        raise StartError(f"cannot open the store {error} (see --store)") from error
    metrics.store_operations = store.operations
    library = ModelCache(store, settings.max_cache_bytes, metrics)
    plane = None
    if batcher is not None:
        coding = CodingService(library, batcher, limits, metrics, calls)
        coding_pb2_grpc.add_CodingServiceServicer_to_server(enclose(coding, CODING), gate)
    if "modeling" in settings.roles:
        plane = _plane(settings, metrics, tracing)
        creator = ModelCreator(store, library, plane.builder, limits, metrics)
        models = ModelService(
            store=store,
            library=library,
            creator=creator,
            perturber=_perturber(plane, settings, metrics, tracing),
            fitter=Fitter(plane),
            limits=limits,
            caller=lambda context: protection.access.caller(context.invocation_metadata()).name,
            is_admin=lambda context: (
                Scope.ADMIN in protection.access.caller(context.invocation_metadata()).scopes
            ),
            turns=lambda context: _turns(protection, context),
        )
        model_pb2_grpc.add_ModelServiceServicer_to_server(enclose(models, MODELING), gate)
    devices = () if plane is None else plane.devices
    info = InfoService(version("entropyd"), sorted(settings.roles), devices, limits)
    info_pb2_grpc.add_InfoServiceServicer_to_server(enclose(info, INFO), gate)
    # Probes carry no token, and must be answered however much there is to do.
    await health.register(cast("Server", Gate(server, refuse)))
    reflected = [*services, INFO.full_name, health_service.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        boundary.enclose(Reflection(reflected), REFLECTION), gate
    )
    server.add_generic_rpc_handlers([Unknown(refuse)])
    try:
        protection.add_port(server, settings.listen)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {settings.listen}: is another server there?") from error
    return _Parts(server, protection, admission, health, store, batcher, plane)


def _turns(protection: Protection, context: Call) -> str:
    """Who takes turns with others: a token, or a connection where there are no tokens."""
    caller = protection.access.caller(context.invocation_metadata())
    return context.connection.decode(errors="replace") if caller is ANYBODY else caller.name


def _tracing(settings: Settings) -> Tracing | None:
    """The spans of the server, if it is told to make any; else nothing of OpenTelemetry is imported."""
    if not settings.tracing:
        return None
    try:
        from entropyd_server.observe.tracing import Tracing  # noqa: PLC0415
    except ImportError as error:
        raise StartError(
            "tracing needs OpenTelemetry: pip install 'entropyd[tracing]', or --no-tracing"
        ) from error
    return Tracing(version("entropyd"))


def _batcher(
    settings: Settings, metrics: Metrics, tracing: Tracing | None, vital: Vital
) -> Batcher[Any, Any]:
    make: Callable[..., Batcher[Any, Any]] = Batcher
    if tracing is not None:
        from entropyd_server.observe.traced_batcher import TracedBatcher  # noqa: PLC0415

        make = partial(TracedBatcher, tracing.tracer)
    batcher = make(
        BatchQueue(settings.max_queue_symbols),
        code,
        threads=settings.codec_threads,
        max_batch_symbols=settings.max_batch_symbols,
        inline_symbols=_INLINE_SYMBOLS,
        max_batch_delay_s=settings.max_batch_delay_ms / 1000,
        metrics=metrics,
        vital=vital,
    )
    metrics.queue_symbols = lambda: batcher.queue_symbols
    metrics.batching_stalled_seconds = lambda: batcher.stalled_s
    return batcher


def _plane(settings: Settings, metrics: Metrics, tracing: Tracing | None) -> WorkerPool:
    def restarted(device: str, reason: str) -> None:
        metrics.worker_restarts[device, reason] += 1

    plane = WorkerPool(
        settings.devices,
        builders=settings.builders,
        limits=WorkLimits(settings.max_build_seconds, settings.max_build_memory_bytes),
        max_model_bytes=settings.max_model_bytes,
        on_restart=restarted,
    )
    for name, worker in plane.workers.items():
        metrics.worker_up[name] = partial(getattr, worker, "up")
        metrics.worker_restarts.update({(name, reason): 0 for reason in RESTART_REASONS})
    if tracing is not None:
        from entropyd_server.observe.traced_turns import trace_turns  # noqa: PLC0415

        trace_turns(tracing.tracer, plane.builders, "build")
        for name in plane.devices:
            trace_turns(tracing.tracer, plane.workers[name], "fit")
    return plane


def _perturber(plane: WorkerPool, settings: Settings, metrics: Metrics, tracing: Tracing | None) -> Perturber:
    make: Callable[..., Perturber] = Perturber
    if tracing is not None:
        from entropyd_server.observe.traced_perturber import TracedPerturber  # noqa: PLC0415

        make = partial(TracedPerturber, tracing.tracer)
    return make(plane, settings.max_queue_symbols, metrics)


async def _start(parts: _Parts, started: float, vital: Vital) -> None:
    """Brings every role to SERVING, the coding role without waiting for the other."""
    starts = []
    if parts.batcher is not None:
        starts.append(_start_coding(parts, started))
    if parts.plane is not None:
        starts.append(_start_modeling(parts, parts.plane, started, vital))
    await asyncio.gather(*starts)


async def _start_coding(parts: _Parts, started: float) -> None:
    await asyncio.to_thread(self_test.warm_up)
    keep_freed_memory()
    await _store_answers(parts.store)
    await parts.health.serving(CODING.full_name)
    log.info("%s is SERVING after %.1f s", CODING.full_name, time.perf_counter() - started)


async def _start_modeling(parts: _Parts, plane: WorkerPool, started: float, vital: Vital) -> None:
    await plane.start(vital)
    await plane.wait_ready()
    await _store_answers(parts.store)
    await parts.health.serving(MODELING.full_name)
    log.info("%s is SERVING after %.1f s", MODELING.full_name, time.perf_counter() - started)


async def _store_answers(store: ModelStore) -> None:
    while True:
        try:
            return await store.probe()
        except UnavailableError:
            log.warning("the store does not answer; asking again in %g s", _STORE_RETRY_S)
            await asyncio.sleep(_STORE_RETRY_S)


def _milliseconds(seconds: float) -> int:
    """A time for an option of gRPC's; 0 stands for no end."""
    return round(min(seconds * 1000, _NO_END)) or _NO_END


def _signals(end_seconds: float) -> tuple[asyncio.Event, asyncio.Event, asyncio.Event]:
    """Events that the first and the second signal to stop set, and SIGHUP.

    Whatever the event loop is held up by, the process has ended so many seconds after the first signal to
    stop, and soon after the second.
    """
    stop, hurry, reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    signalled = 0

    def stopped(*_: object) -> None:
        nonlocal signalled
        signalled += 1
        end_within(end_seconds if signalled == 1 else _CLOSING_SECONDS)
        loop.call_soon_threadsafe((stop if signalled == 1 else hurry).set)

    # The interpreter calls them while the loop waits for anything, which asyncio's own handlers do not do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reload.set))
    return stop, hurry, reload


async def _probed(address: str, health: Health, vital: Vital) -> Server | None:
    """Answers health, and nothing else, on an address of its own; without one, does nothing."""
    if not address:
        return None
    server = Server([("grpc.so_reuseport", 0), *KEEPALIVE], vital)
    await health.register(server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {address}: is another server there?") from error
    await server.start()
    return server
