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
        """Adds methods, before the server starts."""
        self._methods.update((method.path, method) for method in methods)

    @abstractmethod
    def add_insecure_port(self, address: str) -> int:
        """Binds an address.

        Returns:
          The port.

        Raises:
          RuntimeError: If it cannot be bound.
        """

    @abstractmethod
    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Binds an address with TLS; see `add_insecure_port`."""

    @abstractmethod
    async def start(self) -> None:
        """Starts to serve."""

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
    """The port, which gRPC says is 0 if the address could not be bound.

    Raises:
      RuntimeError: If it is 0.
    """
    if not port:
        raise RuntimeError(f"cannot bind {address}")
    return port


def _unknown(call: Call) -> None:
    raise UnimplementedError(f"there is no method {call.method}")
