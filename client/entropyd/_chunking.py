"""Arrays larger than one message: cut on coding units into chunks, one call for each.

Invariant: the result is what one message would have given, wherever the cuts are, and errors name coding
units of the whole array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

from entropyd._info import ModelInfo
from entropyd._symbols import Symbols

# Arrays are cut into chunks of about this many bytes.
CHUNK_BYTES = 1024 * 1024
# Calls in flight at a time: enough to keep a few codec threads busy.
WINDOW = 8

_Result_co = TypeVar("_Result_co", covariant=True)


class Work(Protocol[_Result_co]):
    """Something that takes several calls of one method."""

    method: ClassVar[str]
    model: ModelInfo
    units: int
    symbols: Symbols | None

    @property
    def sent_symbols(self) -> bool: ...  # whether a request had symbols, or asked for them

    def requests(self) -> Iterator[tuple[bytes, int]]: ...  # serialised, and the coding units of each

    def add(self, response: Any) -> None: ...  # in the order of the requests

    def result(self) -> _Result_co: ...  # after all responses


class Progress:
    """Calls a callback, if there is one, with the coding units that are done and the number of all."""

    def __init__(self, callback: Callable[[int, int], None] | None, units: int) -> None:
        self._callback = callback
        self._units = units
        self._done = 0

    def add(self, units: int) -> None:
        self._done += units
        if self._callback is not None:
            self._callback(self._done, self._units)
