"""The batch queue, a value with a clock argument: `append(entry, now)`, `next_batch(now, max_symbols)`.

Invariants:

- Every unit of every entry is in exactly one batch, unless the entry expires or is removed first. Then its
  remaining units are in none, and an expired entry is returned once.
- The units of a batch share one key. A batch costs at most `max_symbols`, except for a single unit that alone
  costs more.
- Keys alternate: a busy model delays another by one batch, not by its queue.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

W = TypeVar("W")


class Operation(Protocol):
    @property
    def name(self) -> str:
        """The label in metrics and spans."""

    @property
    def run(self) -> Callable[..., Any]:
        """Takes parts, each (work, start, stop) for units [start, stop); returns one result per part."""


class Key(Protocol):
    """What units must have in common to share a batch; hashable."""

    @property
    def operation(self) -> Operation: ...

    @property
    def kind(self) -> str:
        """The kind of the units' model, in metrics and spans."""

    def __hash__(self) -> int: ...


@dataclass(eq=False)
class Entry(Generic[W]):
    """The coding units of one caller.

    Attributes:
      key: What units must have in common to share a batch.
      work: What the operation takes; opaque to the queue.
      units: Number of coding units, at least 1.
      unit_cost: Symbols of each, at least 1.
      deadline: Time from which on the entry is not run any more.
      queued_at: Time at which it was appended.
      taken: Units that are in a batch.
      removed: Whether it expired or was removed.
    """

    key: Key
    work: W
    units: int
    unit_cost: int
    deadline: float = math.inf
    queued_at: float = field(default=0.0, init=False)
    taken: int = field(default=0, init=False)
    removed: bool = field(default=False, init=False)

    @property
    def queued_symbols(self) -> int:
        """Symbols that are in no batch yet."""
        return (self.units - self.taken) * self.unit_cost


@dataclass(frozen=True)
class Share(Generic[W]):
    """Units [start, stop) of an entry."""

    entry: Entry[W]
    start: int
    stop: int


@dataclass(frozen=True)
class Batch(Generic[W]):
    """Units to run together; `shares` is not empty."""

    shares: list[Share[W]]
    symbols: int
    units: int

    @property
    def key(self) -> Key:
        return self.shares[0].entry.key


class BatchQueue(Generic[W]):
    """Entries in order of arrival, by key; full from `max_queue_symbols` queued `symbols` on."""

    def __init__(self, max_queue_symbols: int) -> None:
        self._max_queue_symbols = max_queue_symbols
        self._entries: OrderedDict[Key, deque[Entry[W]]] = OrderedDict()
        self.symbols = 0

    @property
    def filled(self) -> float:
        """Queued symbols as a share of the maximum; above 1 where the last entry exceeded it."""
        return self.symbols / self._max_queue_symbols

    def append(self, entry: Entry[W], now: float) -> None:
        entry.queued_at = now
        self._entries.setdefault(entry.key, deque()).append(entry)
        self.symbols += entry.queued_symbols

    def remove(self, entry: Entry[W]) -> None:
        """Removes an entry's queued units; removing it again changes nothing."""
        if not entry.removed:
            self.symbols -= entry.queued_symbols
            entry.removed = True

    def next_batch(self, now: float, max_symbols: int) -> tuple[Batch[W] | None, list[Entry[W]]]:
        """Takes a batch of the next key, None if no unit is queued; also returns the entries that expired."""
        expired: list[Entry[W]] = []
        while self._entries:
            key, entries = self._entries.popitem(last=False)
            batch = self._take(entries, now, max_symbols, expired)
            if entries:
                self._entries[key] = entries
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
            if not entry.removed and entry.deadline <= now:
                self.remove(entry)
                expired.append(entry)
            if entry.removed:
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
