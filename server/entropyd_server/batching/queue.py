"""The batch queue: a value with a clock argument.

Owns which coding units are coded next, and together with which. It must not know what coding is, nor time
but what it is told: `append(entry, now)`, `next_batch(now)`. Invariants:

- Every unit of every entry is handed out once, unless the entry expires or its caller leaves first; then no
  further unit of it is handed out, and an expired entry is reported once.
- Units of one batch have one key. A batch costs at most the symbols asked for, but for one unit that alone
  costs more.
- Keys take turns, so that a busy model delays another by one batch and not by its queue.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

W = TypeVar("W")


class Key(Protocol):
    """What units must have in common to be coded together; hashable."""

    @property
    def operation(self) -> str:
        """What is done with them, as metrics name it."""

    def __hash__(self) -> int: ...


@dataclass(eq=False)
class Entry(Generic[W]):
    """The coding units of one caller.

    Attributes:
      key: What units must have in common to be coded together.
      work: The caller's own.
      units: Number of coding units, at least 1.
      unit_cost: Symbols of each, at least 1.
      deadline: Time after which the caller wants no answer.
      queued_at: When it was appended.
      taken: Units that were handed out.
      left: Whether the caller has left.
    """

    key: Key
    work: W
    units: int
    unit_cost: int
    deadline: float = math.inf
    queued_at: float = field(default=0.0, init=False)
    taken: int = field(default=0, init=False)
    left: bool = field(default=False, init=False)

    @property
    def waiting_symbols(self) -> int:
        """Symbols that were not handed out."""
        return (self.units - self.taken) * self.unit_cost


@dataclass(frozen=True)
class Share(Generic[W]):
    """Units [start, stop) of an entry."""

    entry: Entry[W]
    start: int
    stop: int


@dataclass(frozen=True)
class Batch(Generic[W]):
    """Units to be coded together; `shares` is not empty."""

    shares: list[Share[W]]
    symbols: int
    units: int

    @property
    def key(self) -> Key:
        """What its units have in common."""
        return self.shares[0].entry.key


class BatchQueue(Generic[W]):
    """Entries that wait, by key.

    Args:
      max_queue_symbols: Symbols that may wait before the queue is full.
    """

    def __init__(self, max_queue_symbols: int) -> None:
        self._max_queue_symbols = max_queue_symbols
        self._waiting: OrderedDict[Key, deque[Entry[W]]] = OrderedDict()
        self.symbols = 0

    @property
    def filled(self) -> float:
        """The share of the queue that is full: below 1 anything may be appended, then nothing."""
        return self.symbols / self._max_queue_symbols

    def append(self, entry: Entry[W], now: float) -> None:
        """Lets an entry wait behind those of its key."""
        entry.queued_at = now
        self._waiting.setdefault(entry.key, deque()).append(entry)
        self.symbols += entry.waiting_symbols

    def leave(self, entry: Entry[W]) -> None:
        """Takes an entry's waiting units out: its caller is gone. To leave twice changes nothing."""
        if not entry.left:
            self.symbols -= entry.waiting_symbols
            entry.left = True

    def next_batch(self, now: float, max_symbols: int) -> tuple[Batch[W] | None, list[Entry[W]]]:
        """Hands out a batch of the key whose turn it is.

        Args:
          now: The time.
          max_symbols: Most symbols of the batch.

        Returns:
          The batch, None where nothing waits; and the entries that expired, to be told so.
        """
        expired: list[Entry[W]] = []
        while self._waiting:
            key, entries = self._waiting.popitem(last=False)
            batch = self._take(entries, now, max_symbols, expired)
            if entries:
                self._waiting[key] = entries
            if batch is not None:
                return batch, expired
        return None, expired

    def _take(
        self, entries: deque[Entry[W]], now: float, max_symbols: int, expired: list[Entry[W]]
    ) -> Batch[W] | None:
        shares: list[Share[W]] = []
        symbols = units = 0
        while entries:
            entry = entries[0]
            if not entry.left and entry.deadline <= now:
                self.leave(entry)
                expired.append(entry)
            if entry.left:
                entries.popleft()
                continue
            room = (max_symbols - symbols) // entry.unit_cost
            count = min(entry.units - entry.taken, max(room, 0 if shares else 1))
            if not count:
                break
            shares.append(Share(entry, entry.taken, entry.taken + count))
            entry.taken += count
            symbols += count * entry.unit_cost
            units += count
            if entry.taken == entry.units:
                entries.popleft()
        self.symbols -= symbols
        return Batch(shares, symbols, units) if shares else None
