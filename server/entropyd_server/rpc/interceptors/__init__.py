"""What happens around every call, as a list of interceptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from entropyd_server.transport.method import Handle, Method, Open


class Interceptor(Protocol):
    """Does something around the calls of a method; by default nothing."""

    def around_open(self, method: Method) -> Open:
        """Returns what may refuse a call before it goes on with `method.open`."""
        return method.open

    def around_handle(self, method: Method) -> Handle:
        """Returns what answers a call, with `method.handle` or an error."""
        return method.handle


def intercepted(method: Method, interceptors: Sequence[Interceptor]) -> Method:
    """Returns the method with interceptors around it, the first of them outermost."""
    for interceptor in reversed(interceptors):
        method = replace(
            method, open=interceptor.around_open(method), handle=interceptor.around_handle(method)
        )
    return method
