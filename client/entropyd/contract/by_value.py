"""Pickling of frozen dataclasses by the values of their fields."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class ByValue:
    """A dataclass that is pickled as the arguments of its constructor.

    Invariant: a copy has gone through the constructor like its original, so it is as frozen, and what the
    original has cached is not in the pickle.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        values: Any = self
        return type(self), tuple(getattr(self, field.name) for field in fields(values))
