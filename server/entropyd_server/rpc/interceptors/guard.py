"""Refuses calls without a token that allows them, with headers that are no text, or of an unready service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from entropyd.contract.errors import EntropydError, InvalidRequestError
from entropyd_server.rpc.interceptors import Interceptor
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Method, Open


class Guard(Interceptor):
    """Refuses calls by their metadata and by the state of their service.

    Args:
      check: Takes the path of a method and a call's metadata; raises if they carry no token with the scope
        that the method needs.
      unready: By the full name of a service, the error for its callers; None while it is ready.
    """

    def __init__(
        self,
        check: Callable[[str, Iterable[tuple[str, Any]]], None],
        unready: Callable[[str], EntropydError | None],
    ) -> None:
        self._check = check
        self._unready = unready

    def around_open(self, method: Method) -> Open:
        check, unready, go_on = self._check, self._unready, method.open
        path, service = method.path, method.service

        def guarded(call: Call) -> None:
            check(path, call.invocation_metadata())
            if call.malformed:
                raise InvalidRequestError.at("metadata", "must be ASCII text, or bytes of a -bin key")
            if (error := unready(service)) is not None:
                raise error
            go_on(call)

        return guarded
