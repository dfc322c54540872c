"""Where calls come in: who may not, and what is too much, is refused before its message is read.

Owns the count of calls in hand. It must not know which call needs what (`access`) or what any call does.
Invariant: a call that is refused costs the server its headers; however large the message behind them is, it
is never assembled.

A handler is looked up once for every call, in the task of that call and before its message is received: so
the gate stands around the look-up. An interceptor would stand there too, but costs every call a second
look-up (docs/adr/0006-batching.md).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from entropyd.contract.errors import EntropydError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from entropyd_server.metrics import Metrics
    from entropyd_server.rpc.boundary import Boundary
    from entropyd_server.security.access import Access

_RETRY_AFTER_S = 0.5


class Gate:
    """Stands for a server while services are added to it, and then in front of them.

    Args:
      server: What the services are added to.
      access: Who may call what.
      max_calls: Most calls in hand at a time.
      boundary: Answers what is refused.
      metrics: Where refusals are counted.
    """

    def __init__(
        self, server: grpc.aio.Server, access: Access, max_calls: int, boundary: Boundary, metrics: Metrics
    ) -> None:
        self._server = server
        self._access = access
        self._max_calls = max_calls
        self._boundary = boundary
        self._metrics = metrics
        self._calls = 0

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds a service, as grpc.aio.Server does."""
        self._server.add_generic_rpc_handlers([_Gated(handler, self) for handler in handlers])

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Called by newer stubs besides; the generic handlers do, and nothing may go around the gate."""

    def refusal(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """What answers a call that may not pass; None lets it pass and counts it until its task ends."""
        try:
            self._access.check(details.method, details.invocation_metadata)
            if self._calls >= self._max_calls:
                raise OverloadedError(f"{self._max_calls} calls are in hand", retry_after_s=_RETRY_AFTER_S)
        except EntropydError as error:
            name = details.method.rpartition("/")[2]
            self._metrics.methods[name].calls_by_code[error.code] += 1
            return self._boundary.refusing(name, error)
        task = asyncio.current_task()
        if task is not None:
            self._calls += 1
            task.add_done_callback(self._ended)
        return None

    def _ended(self, task: asyncio.Task[Any]) -> None:  # noqa: ARG002 - asyncio hands it over
        self._calls -= 1


class _Gated(grpc.GenericRpcHandler):
    """The handlers of one service behind the gate."""

    def __init__(self, handlers: grpc.GenericRpcHandler, gate: Gate) -> None:
        self._handlers = handlers
        self._gate = gate

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See base class."""
        handler = self._handlers.service(handler_call_details)
        if handler is None:  # another service's
            return None
        return self._gate.refusal(handler_call_details) or handler
