"""What both servers have in common: the methods that they serve, and the calls in flight."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from typing import Any

import grpc

from entropyd.contract.errors import UnimplementedError
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method, Open

# Channel arguments that end connections whose callers vanished: after 10 s of silence the server pings, and
# without an answer within 8 s it drops the connection with its calls. Callers may ping as often.
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    # Both: the first alone ends nothing in gRPC 1.85, where the second is 60 s by default.
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.ping_timeout_ms", 8_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Callers that ping more often lose their connection; by default, every 5 minutes is too often.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class Server(ABC):
    """Serves methods.

    Attributes:
      calls: The calls that have begun and not ended.
      refuse_unknown: Refuses calls of methods that the server has not; by default as UNIMPLEMENTED.
    """

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}
        self._all_ended = asyncio.Event()
        self.calls: set[Call] = set()
        self.refuse_unknown: Open = _unknown

    def add(self, methods: Iterable[Method]) -> None:
        self._methods.update((method.path, method) for method in methods)

    @abstractmethod
    def add_insecure_port(self, address: str) -> int:
        """Binds an address and returns the port.

        Raises:
          RuntimeError: If it cannot be bound.
        """

    @abstractmethod
    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Binds an address with TLS; see `add_insecure_port`."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self, patience: Coroutine[Any, Any, object]) -> None:
        """Refuses new calls and waits for those in flight; cancels them when `patience` ends."""

    async def close(self) -> None:  # noqa: B027 - not every server holds something
        """Frees what a server that was stopped still holds."""

    def _ended(self, call: Call) -> None:
        self.calls.discard(call)
        if not self.calls:
            self._all_ended.set()

    async def _wait_for_calls(self) -> None:
        while self.calls:
            self._all_ended.clear()
            await self._all_ended.wait()


def bound(address: str, port: int) -> int:
    """The port; raises RuntimeError if it is 0, which is gRPC's way to say that it could not be bound."""
    if not port:
        raise RuntimeError(f"cannot bind {address}")
    return port


def _unknown(call: Call) -> None:
    raise UnimplementedError(f"there is no method {call.method}")
