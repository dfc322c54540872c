"""Limits how many log lines of one kind are written per second.

Invariant: in any second that begins with a line of a kind, at most `burst` lines of it are admitted; each
line left out is counted once.
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
    """Admits at most `burst` lines of each kind per second. Remembers every kind, so there must be few."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._budgets: dict[K, _Budget] = {}

    def admit(self, kind: K, now: float) -> int | None:
        """Returns how many lines of a kind were left out since the last one, or None to leave out this one.

        `now` is in seconds.
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
