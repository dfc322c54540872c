"""Where calls come in: what may not or cannot be answered is refused before any of our code sees it.

Owns the count of calls in hand. It must not know which call needs what (`access`), what a message is
(`messages`) or what any call does. Invariant: a call that is refused costs the server its headers; however
large the message behind them is, it is never assembled.

A handler is looked up once for every call, before its message is received: so the gate stands around the
look-up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc

from entropyd.contract.errors import EntropydError, InvalidRequestError, OverloadedError, Violation
from entropyd_server.rpc.messages import read_message, write_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from entropyd_server.security.access import Access
    from entropyd_server.transport.call import Call
    from entropyd_server.transport.server import Server

    Handler = grpc.RpcMethodHandler[Any, Any]
    Refusal = Callable[[Call], EntropydError | None]
    Admit = Callable[[float | None], None]
    Refuse = Callable[[str, EntropydError, Call], NoReturn]

_RETRY_AFTER_S = 0.5
# What gRPC calls every client of a Unix socket.
_ANY_PEER = b"unix:"
_NO_CALLS: dict[Call, None] = {}


class Admission:
    """Decides which calls may pass.

    Args:
      access: Who may call what.
      max_calls: Most calls in flight at a time; seven eighths of them over one connection.
      admit: By a method's path, raises if a caller who will wait that many seconds is not to send a message.
      on_evicted: Called for each call that is ended for another; see `_make_room`.
    """

    def __init__(
        self, access: Access, max_calls: int, admit: Mapping[str, Admit], on_evicted: Callable[[], None]
    ) -> None:
        self._access = access
        self._max_calls = max_calls
        self._admit = admit
        self._on_evicted = on_evicted
        self._calls = 0
        self._share = connection_share(max_calls)
        # In the order in which they came; a dict, which unlike a set keeps it.
        self._by_connection: dict[bytes, dict[Call, None]] = {}

    @property
    def full(self) -> bool:
        """Whether all places are taken."""
        return self._calls >= self._max_calls

    def refusal(self, call: Call) -> EntropydError | None:
        """Why a call may not pass; None lets it pass and counts it until it ends."""
        try:
            self._access.check(call.method, call.invocation_metadata())
            if call.malformed:
                return InvalidRequestError.of(
                    [Violation("metadata", "must be ASCII text, or bytes of a -bin key")]
                )
            # Clients wait by themselves for a connection's calls to become fewer, others do not.
            others = self._by_connection.get(call.connection, _NO_CALLS)
            if len(others) >= self._share and not call.connection.startswith(_ANY_PEER):
                return OverloadedError(
                    f"{self._share} calls of this connection are in hand", retry_after_s=_RETRY_AFTER_S
                )
            if (admit := self._admit.get(call.method)) is not None:
                admit(call.time_remaining())
            if self._calls >= self._max_calls and not self._make_room(len(others)):
                return OverloadedError(f"{self._max_calls} calls are in hand", retry_after_s=_RETRY_AFTER_S)
        except EntropydError as error:
            # Whoever holds the error is in its traceback: both would stay until garbage is collected.
            return error.with_traceback(None)
        self._calls += 1
        if others:
            others[call] = None
        else:
            self._by_connection[call.connection] = {call: None}
        call.add_done_callback(self._give_back)
        return None

    def _make_room(self, calls: int) -> bool:
        """Ends the newest call that waits for its caller, of the connection that has most of those.

        Only if that leaves it with no fewer than the newcomer's connection then has: so places that are held
        without sending are shared out evenly, and callers who send slowly do not take them from one another
        in turns.

        Args:
          calls: Calls in flight of the newcomer's connection.

        Returns:
          Whether there was one.
        """
        held: list[Call] = []
        for others in self._by_connection.values():
            if len(others) > max(calls + 1, len(held)):  # or too few of them can be waiting
                owed = [call for call in others if call.owed]
                if len(owed) > max(calls + 1, len(held)):
                    held = owed
        if not held:
            return False
        newest = held[-1]  # of its connection's messages, this one has had the least time to come
        # Now, not when its end has reached a caller who may not be reading.
        self._give_back(newest)
        self._on_evicted()
        newest.break_off(
            grpc.StatusCode.UNAVAILABLE, "no message came through, and other calls need the place"
        )
        return True

    def _give_back(self, call: Call) -> None:
        """Gives a call's place back, unless that was done."""
        calls = self._by_connection.get(call.connection, _NO_CALLS)
        if call in calls:
            self._calls -= 1
            del calls[call]
            if not calls:
                del self._by_connection[call.connection]


def connection_share(max_calls: int) -> int:
    """How many of a server's calls one connection may have: all but an eighth, or the only one."""
    return max(max_calls - max(max_calls // 8, 1), 1)


class Gate:
    """Stands for a server while services are added to it, and then in front of them.

    Args:
      server: What the services are added to.
      refuse: Aborts a call with an error, by its method's path.
      refusal: Says why a call may not pass; None lets every call pass.
    """

    def __init__(self, server: Server, refuse: Refuse, refusal: Refusal | None = None) -> None:
        self._server = server
        self._refuse = refuse
        self._refusal = refusal

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds a service, as `Server` does."""
        gated = [_Gated(handler, self._refuse, self._refusal) for handler in handlers]
        self._server.add_generic_rpc_handlers(gated)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Newer stubs add their handlers this way too; nothing may go around the generic ones."""


class _Gated:
    """The handlers of one service behind the gate."""

    def __init__(self, handlers: grpc.GenericRpcHandler, refuse: Refuse, refusal: Refusal | None) -> None:
        self._handlers = handlers
        self._refuse = refuse
        self._refusal = refusal
        self._reading: dict[str, Handler] = {}

    def service(self, call: Any) -> Handler | None:
        """The handler for a call; None where the method is another service's, or nobody's."""
        handler = self._reading.get(call.method)
        if handler is None:
            unread = self._handlers.service(call)
            if unread is None:
                return None
            handler = self._reading[call.method] = self._with_care(unread)
        refusal = None if self._refusal is None else self._refusal(call)
        if refusal is not None:
            self._refuse(call.method, refusal, call)
        return handler

    def _with_care(self, handler: Any) -> Handler:
        """A handler that answers bytes that are no message as every other bad request.

        And that may answer with whatever serialises as a message of its type does.
        """
        read = partial(read_message, handler.request_deserializer.__self__)
        changes: dict[str, Any] = {
            "request_deserializer": read,
            "response_serializer": write_message,
        }

        if not handler.request_streaming:
            behaviour = handler.unary_unary or handler.unary_stream

            async def answer(message: bytes, context: Call) -> Any:
                try:
                    request = read(message)
                except EntropydError as error:
                    self._refuse(context.method, error, context)
                return await behaviour(request, context)

            kind = "unary_stream" if handler.response_streaming else "unary_unary"
            changes |= {kind: answer, "request_deserializer": None}
        return cast("Handler", handler._replace(**changes))
