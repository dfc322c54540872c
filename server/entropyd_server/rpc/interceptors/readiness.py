"""Refuses calls of a service that is starting or draining."""

from __future__ import annotations

from collections.abc import Callable

from entropyd.contract.errors import EntropydError
from entropyd_server.rpc.interceptors import Interceptor
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method, Open


class Readiness(Interceptor):
    """Refuses calls while their service is not ready.

    Args:
      unready: By the full name of a service, the error for its callers; None while it is ready.
    """

    def __init__(self, unready: Callable[[str], EntropydError | None]) -> None:
        self._unready = unready

    def around_open(self, method: Method) -> Open:
        unready, service, go_on = self._unready, method.service, method.open

        def ready(call: Call) -> None:
            if (error := unready(service)) is not None:
                raise error
            go_on(call)

        return ready
