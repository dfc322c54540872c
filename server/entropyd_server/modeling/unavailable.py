"""The errors for a worker that cannot answer, and the retry after the loss of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from entropyd.contract.errors import UnavailableError

T = TypeVar("T")

WORKER_LOST = "WORKER_LOST"


def stopping() -> UnavailableError:
    return UnavailableError("the server is stopping", reason="DRAINING")


async def retry_if_lost(attempt: Callable[[], Awaitable[T]]) -> T:
    """Makes an attempt, and a second one if its worker was lost.

    There is no third: if two workers are lost over the same work, it may be the cause (docs/adr/0009).

    Raises:
      UnavailableError: WORKER_LOST, if the second worker was lost too.
    """
    try:
        return await attempt()
    except UnavailableError as error:
        if error.reason != WORKER_LOST:
            raise
    return await attempt()
