"""Whether each service can be used, told by grpc.health.v1 and by the calls themselves.

Owns the state of each service: starting, serving or draining. Invariant: a service says SERVING only after
`serving`, and never again after `drain`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entropyd.contract.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entropyd_server.transport.call import Call
    from entropyd_server.transport.server import Server

_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVING = health_pb2.HealthCheckResponse.SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_RETRY_AFTER_S = 0.5
# Later than the end of the server, so that nobody comes back in that moment.
_TURNED_AWAY_RETRY_AFTER_S = 1.0
# Name of the health service for a liveness probe: it goes on SERVING while the server starts and drains.
LIVENESS = "entropyd.liveness"


class Health:
    """Health of `services`, by their full names; the empty name stands for all of them."""

    def __init__(self, services: Sequence[str]) -> None:
        self._starting = set(services)
        self._services = tuple(services)
        self._draining = False
        self._servicer = _Servicer()
        self._turning_away = False

    async def register(self, server: Server) -> None:
        """Adds the health service to a server, every service starting."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        for name in ("", *self._services):
            await self._servicer.set(name, _NOT_SERVING)
        await self.alive(alive=True)

    async def serving(self, service: str) -> None:
        """Marks a service as ready to be used."""
        self._starting.discard(service)
        if self._draining:
            return
        await self._servicer.set(service, _SERVING)
        if not self._starting:
            await self._servicer.set("", _SERVING)

    async def alive(self, *, alive: bool) -> None:
        """Says whether the process makes progress; where it does not, it should be restarted."""
        await self._servicer.set(LIVENESS, _SERVING if alive else _NOT_SERVING)

    async def drain(self) -> None:
        """Tells everyone to go elsewhere; calls are still answered."""
        self._draining = True
        for name in ("", *self._services):
            await self._servicer.set(name, _NOT_SERVING)

    @property
    def states(self) -> dict[str, str]:
        """STARTING, SERVING or DRAINING, by service."""
        ready = "DRAINING" if self._draining else "SERVING"
        return {name: "STARTING" if name in self._starting else ready for name in self._services}

    def turn_away(self) -> None:
        """Has further calls refused: the server is about to end."""
        self._turning_away = True

    def unready(self, service: str) -> UnavailableError | None:
        """The error for a call of a service that cannot be served yet, or no more."""
        if self._turning_away:
            return UnavailableError(
                "the server is draining", reason="DRAINING", retry_after_s=_TURNED_AWAY_RETRY_AFTER_S
            )
        if service not in self._starting:
            return None
        return UnavailableError(f"{service} is starting", reason="STARTING", retry_after_s=_RETRY_AFTER_S)


class _Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package carries no types
    """The published protocol, statuses by service.

    Not the one of grpcio-health-checking, in which a watcher that leaves takes the others' wake-up call with
    it: they would never hear of a drain (seen in 1.62.3).
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Condition()

    async def set(self, service: str, status: int) -> None:
        """Tells all watchers of a service."""
        async with self._changed:
            self._statuses[service] = status
            self._changed.notify_all()

    async def Check(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: Call
    ) -> health_pb2.HealthCheckResponse:
        """See grpc/health/v1/health.proto."""
        if request.service not in self._statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def Watch(  # noqa: N802 - gRPC's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: Call,
    ) -> None:
        """See grpc/health/v1/health.proto."""
        told = None
        while True:
            async with self._changed:
                while (status := self._statuses.get(request.service, _UNKNOWN)) == told:
                    await self._changed.wait()
            told = status
            await context.write(health_pb2.HealthCheckResponse(status=told))
