"""Refuses calls of methods that no service has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from entropyd.contract.errors import UnimplementedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd.contract.errors import EntropydError
    from entropyd_server.transport.call import Call

# What metrics and log lines call such methods: their names are the callers' to choose.
_METHOD = "unknown"


class Unknown:
    """Stands behind the last of a server's services.

    Args:
      refuse: Aborts a call with an error, by its method's path.
    """

    def __init__(self, refuse: Callable[[str, EntropydError, Call], NoReturn]) -> None:
        self._refuse = refuse

    def service(self, call: Call) -> NoReturn:
        """Refuses a call."""
        self._refuse(_METHOD, UnimplementedError(f"there is no method {call.method}"), call)
