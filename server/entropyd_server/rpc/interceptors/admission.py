"""Limits the calls in flight: on the whole server, on each connection, and by what its queues have room for.

Calls are refused before their messages are received, so that a refused call costs the server its headers
alone, however large its message is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entropyd.contract.errors import OverloadedError, UnavailableError
from entropyd_server.rpc.interceptors import Interceptor
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method, Open

# Raises if a caller who will wait for so many seconds, or without limit, should not send its message.
Admit = Callable[["float | None"], None]

_RETRY_AFTER_S = 0.5
# gRPC's name of every client of a Unix socket.
_ANY_PEER = b"unix:"


class Admission(Interceptor):
    """Admits calls up to a number in flight.

    Args:
      max_calls: Most calls in flight; seven eighths of them over one connection.
      admit: By the path of a method, a check that its calls have to pass.
      on_evicted: Called for each call that is ended to make room for another.
    """

    def __init__(self, max_calls: int, admit: Mapping[str, Admit], on_evicted: Callable[[], None]) -> None:
        self._max_calls = max_calls
        self._admit = admit
        self._on_evicted = on_evicted
        self._calls = 0
        self._share = connection_share(max_calls)
        # In the order in which they came: a dict keeps it, a set does not.
        self._by_connection: dict[bytes, dict[Call, None]] = {}

    @property
    def full(self) -> bool:
        return self._calls >= self._max_calls

    def around_open(self, method: Method) -> Open:
        admit, go_on, by_connection = self._admit.get(method.path), method.open, self._by_connection

        def admitted(call: Call) -> None:
            connection = call.connection
            others = by_connection.get(connection)
            # Clients keep to a connection's limit by themselves; those that do not are refused.
            if others and len(others) >= self._share and not connection.startswith(_ANY_PEER):
                raise OverloadedError(
                    f"{self._share} calls of this connection are in flight", retry_after_s=_RETRY_AFTER_S
                )
            if admit is not None:
                admit(call.time_remaining())
            if self._calls >= self._max_calls and not self._make_room(len(others or ())):
                raise OverloadedError(f"{self._max_calls} calls are in flight", retry_after_s=_RETRY_AFTER_S)
            self._calls += 1
            if others:
                others[call] = None
            else:
                by_connection[connection] = {call: None}
            call.add_done_callback(self._give_back)
            go_on(call)

        return admitted

    def _make_room(self, calls: int) -> bool:
        """Ends the newest call that waits for its caller, of the connection that has most of those.

        Only if that connection keeps at least as many as the new call's connection then has. So callers who
        hold calls without sending share them evenly, and callers who send slowly do not evict each other.

        `calls` are in flight on the new call's connection. Returns whether there was a call to end.
        """
        held: list[Call] = []
        for others in self._by_connection.values():
            if len(others) > max(calls + 1, len(held)):  # else too few of them can be waiting
                owed = [call for call in others if call.owed]
                if len(owed) > max(calls + 1, len(held)):
                    held = owed
        if not held:
            return False
        newest = held[-1]  # its message has had the least time to come
        self._give_back(newest)  # at once, because its caller may not be reading the end
        self._on_evicted()
        newest.break_off(UnavailableError("no message came through, and other calls need the place"))
        return True

    def _give_back(self, call: Call) -> None:
        """Counts a call as ended, unless it was."""
        calls = self._by_connection.get(call.connection)
        if calls is not None and call in calls:
            self._calls -= 1
            del calls[call]
            if not calls:
                del self._by_connection[call.connection]


def connection_share(max_calls: int) -> int:
    """Returns how many of a server's calls one connection may have: all but an eighth, or the only one."""
    return max(max_calls - max(max_calls // 8, 1), 1)
