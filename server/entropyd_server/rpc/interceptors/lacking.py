"""Refuses the methods that need a role which the server does not have."""

from __future__ import annotations

from collections.abc import Mapping

from entropyd_server.errors import role_missing
from entropyd_server.rpc.interceptors import Interceptor
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method, Open


class Lacking(Interceptor):
    """Refuses by the name of a method; `roles` has the missing role of each that is refused."""

    def __init__(self, roles: Mapping[str, str]) -> None:
        self._roles = roles

    def around_open(self, method: Method) -> Open:
        name, role = method.name, self._roles.get(method.name)
        if role is None:
            return method.open

        def refused(_: Call) -> None:
            raise role_missing(role, name)

        return refused
