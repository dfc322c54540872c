"""The errors for a worker that cannot answer, and the retry after the loss of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from entropyd.contract.errors import UnavailableError

T = TypeVar("T")

WORKER_LOST = "WORKER_LOST"


def stopping() -> UnavailableError:
    """The error for callers of a server that is stopping."""
    return UnavailableError("the server is stopping", reason="DRAINING")


async def retry_if_lost(attempt: Callable[[], Awaitable[T]]) -> T:
    """Makes an attempt that changes nothing, and a second one if its worker was lost.

    No third one: two workers lost over the same work may have been lost because of it (docs/adr/0009).

    Raises:
      UnavailableError: WORKER_LOST, if the second worker was lost too.
    """
    try:
        return await attempt()
    except UnavailableError as error:
        if error.reason != WORKER_LOST:
            raise
    return await attempt()
