"""The state of each service: starting, serving or draining, and the health service that reports it.

Invariant: a service is SERVING only after `serving`, and never again after `drain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from grpc_health.v1 import health_pb2, health_pb2_grpc

from entropyd.contract.errors import EntropydError, UnavailableError
from entropyd_server.rpc.servicers import methods_of
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
# The health service's name of the process itself, for a liveness probe: SERVING also while the server starts
# and drains.
LIVENESS = "entropyd.liveness"

_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVING = health_pb2.HealthCheckResponse.SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_RETRY_AFTER_S = 0.5
# After the end of the server, so that a retry reaches another one.
_TURNED_AWAY_RETRY_AFTER_S = 1.0


class Health:
    """The health of services.

    Args:
      services: Their full names; the empty name stands for all of them.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._starting = set(services)
        self._services = tuple(services)
        self._draining = False
        statuses = dict.fromkeys(("", *services), _NOT_SERVING)
        self._servicer = _Servicer({**statuses, LIVENESS: _SERVING})
        self._turning_away = False

    def methods(self) -> Iterator[Method]:
        return methods_of(self._servicer, HEALTH)

    async def serving(self, service: str) -> None:
        """Marks a service as ready."""
        self._starting.discard(service)
        if self._draining:
            return
        await self._servicer.set(service, _SERVING)
        if not self._starting:
            await self._servicer.set("", _SERVING)

    async def alive(self, *, alive: bool) -> None:
        """Reports whether the process makes progress; if not, it should be restarted."""
        await self._servicer.set(LIVENESS, _SERVING if alive else _NOT_SERVING)

    async def drain(self) -> None:
        """Tells clients to use other servers; calls are still answered."""
        self._draining = True
        for name in ("", *self._services):
            await self._servicer.set(name, _NOT_SERVING)

    @property
    def states(self) -> dict[str, str]:
        """STARTING, SERVING or DRAINING, by service."""
        ready = "DRAINING" if self._draining else "SERVING"
        return {name: "STARTING" if name in self._starting else ready for name in self._services}

    def turn_away(self) -> None:
        """Refuses further calls, because the server is about to end."""
        self._turning_away = True

    def unready(self, service: str) -> UnavailableError | None:
        """Returns the error for calls of a service that is starting, or of a server about to end, if any."""
        if self._turning_away:
            return UnavailableError(
                "the server is draining", reason="DRAINING", retry_after_s=_TURNED_AWAY_RETRY_AFTER_S
            )
        if service not in self._starting:
            return None
        return UnavailableError(f"{service} is starting", reason="STARTING", retry_after_s=_RETRY_AFTER_S)


class _UnknownServiceError(EntropydError):
    code = "NOT_FOUND"
    reasons = ("SERVICE_UNKNOWN",)


class _Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package carries no types
    """The published protocol.

    In the servicer of grpcio-health-checking (1.62.3), a watcher that leaves takes the notification of the
    others with it, so that they never hear of a drain.
    """

    def __init__(self, statuses: dict[str, int]) -> None:
        self._statuses = statuses
        self._changed = asyncio.Condition()

    async def set(self, service: str, status: int) -> None:
        """Sets the status of a service, and notifies its watchers."""
        async with self._changed:
            self._statuses[service] = status
            self._changed.notify_all()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Call
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._statuses:
            raise _UnknownServiceError("no such service")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Call) -> None:
        sent = None
        while True:
            async with self._changed:
                while (status := self._statuses.get(request.service, _UNKNOWN)) == sent:
                    await self._changed.wait()
            sent = status
            await context.write(health_pb2.HealthCheckResponse(status=sent))
