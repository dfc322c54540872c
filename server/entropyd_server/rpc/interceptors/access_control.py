"""Refuses callers without a token that allows the call, and headers that are no text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from entropyd.contract.errors import InvalidRequestError
from entropyd_server.rpc.interceptors import Interceptor
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method, Open

Check = Callable[[str, Iterable[tuple[str, Any]]], None]


class AccessControl(Interceptor):
    """Refuses calls by their metadata.

    Args:
      check: Raises if the metadata carry no token with the scope that a method needs.
    """

    def __init__(self, check: Check) -> None:
        self._check = check

    def around_open(self, method: Method) -> Open:
        check, path, go_on = self._check, method.path, method.open

        def checked(call: Call) -> None:
            check(path, call.invocation_metadata())
            if call.malformed:
                raise InvalidRequestError.at("metadata", "must be ASCII text, or bytes of a -bin key")
            go_on(call)

        return checked
