"""What happens around every call, as a list of interceptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from entropyd_server.transport.method import Handle, Method, Open


class Interceptor(Protocol):
    """Does something around the calls of a method; by default nothing."""

    def around_open(self, method: Method) -> Open:
        """What refuses calls of a method; goes on with `method.open`."""
        return method.open

    def around_handle(self, method: Method) -> Handle:
        """What answers calls of a method; goes on with `method.handle`."""
        return method.handle


def intercepted(method: Method, interceptors: Sequence[Interceptor]) -> Method:
    """The method with interceptors around it, the first of them outermost."""
    for interceptor in reversed(interceptors):
        method = replace(
            method, open=interceptor.around_open(method), handle=interceptor.around_handle(method)
        )
    return method
