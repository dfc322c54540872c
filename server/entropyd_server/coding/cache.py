"""A cache bounded in bytes, and in entries if asked to.

Invariant: the bytes of all values are at most the budget, but for one value that alone exceeds it; what was
used longest ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BytesLRU(Generic[K, V]):
    """Least-recently-used values up to a number of bytes. Not thread-safe: one owner.

    Attributes:
      nbytes: Bytes of all values.
    """

    def __init__(self, max_bytes: int, max_entries: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value of `key`, now the most recently used; None if it is not cached."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, value_bytes: int) -> None:
        """Caches a value, and drops those used longest ago until the budget holds."""
        self.drop(key)
        self._entries[key] = (value, value_bytes)
        self.nbytes += value_bytes
        while len(self._entries) > 1 and self._is_over():
            _, (_, dropped_bytes) = self._entries.popitem(last=False)
            self.nbytes -= dropped_bytes

    def drop(self, key: K) -> None:
        """Forgets a value, if it is cached."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.nbytes -= entry[1]

    def _is_over(self) -> bool:
        return self.nbytes > self._max_bytes or (
            self._max_entries is not None and len(self._entries) > self._max_entries
        )
