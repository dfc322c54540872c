"""A batcher that tells how long each call waited and how long it was coded.

Owns which moments of a batcher are which of `visits`. It must not know how batches are made: it sees what
goes in and when it is coded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from entropyd_server.batching.batcher import Batcher
from entropyd_server.observe.spans import Visits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import Tracer

    from entropyd_server.batching.queue import BatchQueue, Key

W = TypeVar("W")
R = TypeVar("R")


class TracedBatcher(Batcher[W, R]):
    """As Batcher, with a tracer before its arguments."""

    def __init__(
        self,
        tracer: Tracer,
        queue: BatchQueue[Any],
        code: Callable[[Any, Sequence[tuple[W, int, int]]], list[R]],
        **settings: Any,
    ) -> None:
        visits = self._visits = Visits(tracer)

        def timed(key: Any, parts: Sequence[tuple[W, int, int]]) -> list[R]:
            with visits.kernel([(work, stop - start) for work, start, stop in parts]):
                return code(key, parts)

        super().__init__(queue, timed, **settings)

    async def submit(
        self, key: Key, work: W, *, units: int, unit_cost: int, timeout_s: float | None
    ) -> list[R]:
        """See base class."""
        with self._visits.of(work, key.operation):
            return await super().submit(key, work, units=units, unit_cost=unit_cost, timeout_s=timeout_s)
