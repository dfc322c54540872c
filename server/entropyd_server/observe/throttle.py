"""How many of the same line are worth writing.

Owns a budget per kind of line. It must not know lines, nor time but what it is told. Invariant: of one kind,
at most `burst` are admitted in any second that begins with one, and each that is left out is counted once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass
class _Budget:
    since: float
    admitted: int = 0
    left_out: int = 0


class Throttle(Generic[K]):
    """At most `burst` of each kind in a second. There must be few kinds: they are kept."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._budgets: dict[K, _Budget] = {}

    def admit(self, kind: K, now: float) -> int | None:
        """Asks for one more of a kind, at a time in seconds.

        Returns:
          None to leave it out; else how many were left out since one was admitted.
        """
        budget = self._budgets.setdefault(kind, _Budget(now))
        if now - budget.since >= 1:
            budget.since, budget.admitted = now, 0
        if budget.admitted == self._burst:
            budget.left_out += 1
            return None
        budget.admitted += 1
        left_out, budget.left_out = budget.left_out, 0
        return left_out
