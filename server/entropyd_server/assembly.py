"""Assembles a server from its settings: transport, interceptors and the services of its roles."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from google.protobuf.descriptor import ServiceDescriptor

from entropyd.contract.errors import UnimplementedError
from entropyd.v1 import coding_pb2_grpc, info_pb2, model_pb2_grpc
from entropyd_server.installation import CODING, MODELING, REGISTRY
from entropyd_server.limits import Limits
from entropyd_server.metrics import Metrics
from entropyd_server.models.cache import ModelCache
from entropyd_server.observe.call_log import CallLog
from entropyd_server.ports import cannot_listen, check_free
from entropyd_server.roles.base import Role, Shared
from entropyd_server.roles.coding import CodingRole
from entropyd_server.roles.registry import RegistryRole
from entropyd_server.rpc.health import HEALTH, Health
from entropyd_server.rpc.info_service import InfoService
from entropyd_server.rpc.interceptors import Interceptor, intercepted
from entropyd_server.rpc.interceptors.admission import Admission, connection_share
from entropyd_server.rpc.interceptors.guard import Guard
from entropyd_server.rpc.interceptors.lacking import Lacking
from entropyd_server.rpc.interceptors.reporting import Reporting
from entropyd_server.rpc.reflection import REFLECTION, Reflection
from entropyd_server.rpc.servicers import methods_of
from entropyd_server.security.protection import Protection
from entropyd_server.security.reloading import FilesError
from entropyd_server.settings import Settings
from entropyd_server.store.location import StoreError
from entropyd_server.store.model_store import ModelStore
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method
from entropyd_server.transport.server import KEEPALIVE, Server
from entropyd_server.transport.transports import Transport
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from entropyd_server.observe.tracing import Tracing

# By the role without which a server has the service not at all; its servicer answers no call.
_SERVICES: dict[str, tuple[ServiceDescriptor, Callable[[], object]]] = {
    CODING: (CodingRole.service, coding_pb2_grpc.CodingServiceServicer),
    REGISTRY: (RegistryRole.service, model_pb2_grpc.ModelServiceServicer),
}
_INFO = info_pb2.DESCRIPTOR.services_by_name["InfoService"]

# What a message may have above max_message_bytes: shapes, ids and lengths around the array.
_ENVELOPE_BYTES = 8 * 1024 * 1024
# Connections whose calls may all be pending, each with as many as it may have.
_FULL_CONNECTIONS = 16
# gRPC's value for no time limit, in milliseconds.
_NO_END = 2**31 - 1


class StartError(Exception):
    """The server cannot start; the message says what to change."""


@dataclass(frozen=True)
class Assembly:
    """The parts of a server that `app` starts, watches and ends, and the address that it is bound to."""

    server: Server
    address: str
    protection: Protection
    admission: Admission
    health: Health
    store: ModelStore
    roles: list[Role]
    tracing: Tracing | None


def assemble(
    settings: Settings, transport: Transport, metrics: Metrics, call_log: CallLog, vital: Vital
) -> Assembly:
    """Builds a server and binds its address; starts nothing.

    Raises:
      StartError: If a file, the store or the address cannot be used, or OpenTelemetry is missing.
    """
    try:
        protection = Protection(settings, metrics)
    except FilesError as error:
        raise StartError(str(error)) from error
    tracing = _tracing(settings)
    limits = settings.limits
    store = _store(settings, limits)
    metrics.store_operations = store.operations
    models = ModelCache(store, settings.max_cache_bytes, metrics)
    shared = Shared(
        settings=settings,
        limits=limits,
        metrics=metrics,
        call_log=call_log,
        tracing=tracing,
        vital=vital,
        resume=transport.resume(),
        access=protection.access,
        store=store,
        models=models,
    )
    roles = _roles(shared)
    admit = {path: check for role in roles for path, check in role.admit.items()}
    admission = Admission(settings.max_concurrent_calls, admit, metrics.count_stalled)
    health = Health([role.service.full_name for role in roles])
    server = _server(settings, transport, vital)
    _add_services(server, shared, roles, admission, health)
    try:
        if settings.processes == 1:
            check_free(settings.listen)
        port = protection.add_port(server, settings.listen)
    except (OSError, RuntimeError) as error:
        raise StartError(cannot_listen(settings.listen, error)) from error
    address = re.sub(r":0$", f":{port}", settings.listen)
    return Assembly(server, address, protection, admission, health, store, roles, tracing)


async def probe_server(address: str, transport: Transport, health: Health, vital: Vital) -> Server | None:
    """Starts a server for health checks only; returns None without an address.

    Raises:
      StartError: If the address cannot be used.
    """
    if not address:
        return None
    server = transport.server([("grpc.so_reuseport", 0), *KEEPALIVE], vital)
    server.add(health.methods())
    try:
        check_free(address)
        server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        raise StartError(cannot_listen(address, error)) from error
    await server.start()
    return server


def _tracing(settings: Settings) -> Tracing | None:
    """Imports OpenTelemetry only where the settings turn tracing on."""
    if not settings.tracing:
        return None
    try:
        from entropyd_server.observe.tracing import Tracing  # noqa: PLC0415
    except ImportError as error:
        raise StartError(
            "tracing needs OpenTelemetry: pip install 'entropyd[tracing]', or --no-tracing"
        ) from error
    return Tracing(version("entropyd"))


def _store(settings: Settings, limits: Limits) -> ModelStore:
    try:
        return ModelStore(settings.store, settings.store_timeout_seconds, limits.max_object_bytes)
    except StoreError as error:
        raise StartError(f"cannot open the store {error} (see --store)") from error


def _roles(shared: Shared) -> list[Role]:
    """Builds the roles of a server, one for each service, in the order in which they start."""
    names = shared.settings.roles
    roles: list[Role] = [CodingRole(shared)] if CODING in names else []
    if MODELING in names:
        from entropyd_server.roles.modeling import ModelingRole  # noqa: PLC0415 - others start without it

        return [*roles, ModelingRole(shared)]
    return [*roles, RegistryRole(shared)] if REGISTRY in names else roles


def _server(settings: Settings, transport: Transport, vital: Vital) -> Server:
    message_bytes = settings.max_message_bytes + _ENVELOPE_BYTES
    most_pending_calls = _FULL_CONNECTIONS * settings.max_concurrent_calls
    age_ms = round(min(settings.max_connection_age_seconds * 1000, _NO_END)) or _NO_END
    return transport.server(
        [
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", message_bytes),
            # With it, a second server silently shares the port; a group has made sure that none is there.
            ("grpc.so_reuseport", int(settings.processes > 1)),
            # Further calls of a connection wait at the client.
            ("grpc.max_concurrent_streams", connection_share(settings.max_concurrent_calls)),
            # By default, gRPC silently cancels some of the pending calls from 1000 on.
            ("grpc.server.max_pending_requests", most_pending_calls),
            ("grpc.server.max_pending_requests_hard_limit", most_pending_calls),
            ("grpc.max_connection_age_ms", age_ms),
            *KEEPALIVE,
        ],
        vital,
    )


def _add_services(
    server: Server, shared: Shared, roles: list[Role], admission: Admission, health: Health
) -> None:
    """Adds every service, with what surrounds its calls: the first interceptor is the outermost."""
    tracing = [] if shared.tracing is None else [shared.tracing]
    reporting = Reporting(shared.metrics, shared.call_log)
    guard = Guard(shared.access.check, health.unready)

    def add(servicer: object, service: ServiceDescriptor, interceptors: Sequence[Interceptor]) -> None:
        server.add(intercepted(method, interceptors) for method in methods_of(servicer, service))

    for role in roles:
        add(role.servicer, role.service, [*tracing, reporting, guard, Lacking(role.lacks), admission])
    served = [role.service.full_name for role in roles]
    for name, (service, servicer) in _SERVICES.items():
        if service.full_name not in served:
            lacking = Lacking({method.name: name for method in service.methods})
            add(servicer(), service, [*tracing, reporting, guard, lacking])
    devices = [device for role in roles for device in role.devices]
    info = InfoService(version("entropyd"), sorted(shared.settings.roles), devices, shared.limits)
    add(info, _INFO, [*tracing, reporting, guard, admission])
    reflected = served + [service.full_name for service in (_INFO, HEALTH, REFLECTION)]
    add(Reflection(reflected), REFLECTION, [reporting, guard, admission])
    # Probes carry no token, and must be answered under any load.
    server.add(health.methods())
    server.refuse_unknown = intercepted(Method("", "unknown", _none, _refuse), [*tracing, reporting]).open


def _refuse(call: Call) -> None:
    raise UnimplementedError(f"there is no method {call.method}")


async def _none(_: object, __: Call) -> None:
    """Answers calls of unknown methods, which are all refused."""
