"""A cache bounded in bytes."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

from cachetools import LRUCache


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


K = TypeVar("K")
V = TypeVar("V", bound=Sized)


class BytesLRU(LRUCache[K, V]):
    """Least-recently-used values, up to a number of bytes and of entries. Not thread-safe.

    cachetools refuses a value larger than the whole cache. Here it is stored, alone, until the next one.
    `currsize` is the bytes of all values, as they were when they were stored.
    """

    def __init__(self, max_bytes: int, max_entries: float = math.inf) -> None:
        super().__init__(math.inf, getsizeof=lambda value: value.nbytes)
        self._max_bytes = max_bytes
        self._max_entries = max_entries

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        while len(self) > 1 and (self.currsize > self._max_bytes or len(self) > self._max_entries):
            self.popitem()
