"""Runs a server: starts its roles, serves, drains.

Invariant: health says SERVING only after the kernels are compiled, the store has answered and, for the
modeling role, the workers are up; every call accepted before the end of service is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from entropyd.contract.errors import UnavailableError
from entropyd_server.assembly import Assembly, StartError, assemble, probe_server
from entropyd_server.machine import raise_file_limit
from entropyd_server.metrics import Metrics
from entropyd_server.observe import pages
from entropyd_server.observe.call_log import CallLog
from entropyd_server.observe.status import StatusSource
from entropyd_server.roles.base import Role
from entropyd_server.settings import Settings
from entropyd_server.signals import Events, Signals
from entropyd_server.store.model_store import ModelStore
from entropyd_server.transport.server import Server
from entropyd_server.transport.stalls import Stalls
from entropyd_server.transport.transports import Transport, choose
from entropyd_server.vital import Vital, end_within, prepare_end

log = logging.getLogger(__name__)

_STORE_RETRY_S = 1.0
# A batch takes seconds at most: without one for this long, something is wrong for good.
_STALLED_S = 30.0
_WATCH_S = 1.0
# The last part of the drain time, in which calls are refused with a time to retry: a server that stops
# cancels those that reach it, and their callers would not know to retry.
_REFUSING_S = 0.5
# Calls in flight at the end of the drain time get this long to end.
_GRACE_SECONDS = 30.0
# After both, the server gets this long to close its parts; then the kernel ends the process.
_CLOSING_SECONDS = 10.0
# After a vital part has failed, the server gets this long to end.
_FAILED_SECONDS = 5.0
# Of which watchers of its health get this long to see it.
_TELL_SECONDS = 0.2


class ServerFailedError(Exception):
    """Something that the server cannot do without has failed; the log says what."""


def serve(settings: Settings, ready: Callable[[], object] = lambda: None) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends at once. SIGHUP reloads files.

    `ready` is called when all roles are SERVING.

    Raises:
      StartError: If an address cannot be bound or the store cannot be opened.
      ServerFailedError: If something fails that the server cannot do without.
    """
    prepare_end()
    raise_file_limit()
    try:
        transport = choose(settings.transport)
        transport.run(_serve_process(settings, transport, ready))
    except (StartError, ServerFailedError):
        raise
    except Exception as error:  # in the event loop itself, so that nothing is left to drain
        Vital(partial(end_within, _FAILED_SECONDS)).fail("the event loop", error)
        raise ServerFailedError from error


async def _serve_process(settings: Settings, transport: Transport, ready: Callable[[], object]) -> None:
    end_seconds = settings.drain_seconds + _GRACE_SECONDS + _CLOSING_SECONDS
    await serve_until(Signals(end_seconds, _CLOSING_SECONDS), settings, transport, ready)


async def serve_until(
    events: Events, settings: Settings, transport: Transport, ready: Callable[[], object] = lambda: None
) -> None:
    """Serves until `events.stop`, then drains; calls `ready` when all roles are SERVING.

    Raises:
      StartError, ServerFailedError: As `serve`.
      RuntimeError: If a role cannot start.
    """
    started = time.perf_counter()
    vital = Vital(partial(events.stop_within, _FAILED_SECONDS))
    metrics, call_log = Metrics(version("entropyd"), settings.roles), CallLog()
    status = StatusSource(version("entropyd"), metrics, call_log)
    _serve_pages(settings.metrics_listen, metrics, status, vital)
    parts = assemble(settings, transport, metrics, call_log, vital)
    status.services = lambda: parts.health.states
    probed = await probe_server(settings.health_listen, transport, parts.health, vital)
    servers = [parts.server] if probed is None else [parts.server, probed]
    await parts.server.start()
    log.info("listening on %s with roles %s", parts.address, ", ".join(sorted(settings.roles)))
    starting = asyncio.create_task(_start_roles(parts, started, ready))
    # A start that fails ends the server, which would otherwise stay unready for ever.
    starting.add_done_callback(lambda task: events.stop.set() if _failed(task) else None)
    watching = [
        vital.task("watching the batcher", _watch_batches(parts)),
        vital.task("reading the metrics", status.keep_reading()),
        vital.task("reloading files", parts.protection.watch(events.reload)),
        vital.task("ending stalled calls", _end_stalled(settings, parts, servers, metrics)),
    ]
    await events.stop.wait()
    await parts.health.drain()
    if vital.failed:
        await parts.health.alive(alive=False)
        await asyncio.sleep(_TELL_SECONDS)
        raise ServerFailedError
    log.info("draining for %g s", settings.drain_seconds)
    for task in (starting, *watching):
        task.cancel()
    await _drain(parts, events.hurry, settings.drain_seconds)
    await _close(parts, servers, events.hurry)
    if _failed(starting):
        await starting
    log.info("stopped")


def _serve_pages(address: str, metrics: Metrics, status: StatusSource, vital: Vital) -> None:
    if not address:
        return
    try:
        page = pages.serve(address, metrics, status.status, vital)
    except OSError as error:
        raise StartError(f"cannot serve metrics on {address}: {error}") from error
    log.info("status page on %s, metrics on %smetrics", page, page)


async def _start_roles(parts: Assembly, started: float, ready: Callable[[], object]) -> None:
    """Brings every role to SERVING; none waits for another."""
    store = asyncio.create_task(_wait_for_store(parts.store))

    async def start(role: Role) -> None:
        await role.start()
        await store
        await parts.health.serving(role.service.full_name)
        log.info("%s is SERVING after %.1f s", role.service.full_name, time.perf_counter() - started)

    await asyncio.gather(*map(start, parts.roles))
    ready()


async def _wait_for_store(store: ModelStore) -> None:
    while True:
        try:
            return await store.probe()
        except UnavailableError:
            log.warning("the model store cannot be used; trying again in %g s", _STORE_RETRY_S)
            await asyncio.sleep(_STORE_RETRY_S)


async def _watch_batches(parts: Assembly) -> None:
    """Reports the process as not alive while queued work makes no progress."""
    while True:
        stalled_s = max(role.stalled_s for role in parts.roles)
        if stalled_s > _STALLED_S:
            log.error("no batch has ended for %.0f s while work is queued", stalled_s)
        await parts.health.alive(alive=stalled_s <= _STALLED_S)
        await asyncio.sleep(_WATCH_S)


async def _end_stalled(settings: Settings, parts: Assembly, servers: list[Server], metrics: Metrics) -> None:
    """Ends the calls that wait for their callers for too long."""
    full = [lambda: parts.admission.full, lambda: False]  # the probes' server admits every call
    await asyncio.gather(
        *(
            Stalls(settings.receive_timeout_seconds, metrics.count_stalled).watch(server.calls, is_full)
            for server, is_full in zip(servers, full, strict=False)
        )
    )


async def _drain(parts: Assembly, hurry: asyncio.Event, drain_seconds: float) -> None:
    """Ends builds and fits at once; serves all else while clients find other servers."""
    for role in parts.roles:
        await role.drain()
    await _pause(hurry, drain_seconds - _REFUSING_S)
    parts.health.turn_away()
    await _pause(hurry, min(drain_seconds, _REFUSING_S))


async def _pause(hurry: asyncio.Event, seconds: float) -> None:
    """Waits that long, or until `hurry` is set."""
    with contextlib.suppress(asyncio.TimeoutError):  # not the built-in one before Python 3.11
        await asyncio.wait_for(hurry.wait(), seconds)


async def _close(parts: Assembly, servers: list[Server], hurry: asyncio.Event) -> None:
    await parts.server.stop(_pause(hurry, _GRACE_SECONDS))
    for server in servers[1:]:
        await server.stop(asyncio.sleep(0))
    for role in reversed(parts.roles):
        await role.close()
    # Servers last: the kernel ends worker processes together with the thread that started them.
    for server in servers:
        await server.close()
    if parts.tracing is not None:
        parts.tracing.close()


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None
