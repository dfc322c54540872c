"""Pickling of frozen dataclasses by the values of their fields."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class ByValue:
    """A dataclass that is pickled as the arguments of its constructor, without what it has cached."""

    def __reduce__(self) -> tuple[Any, ...]:
        values: Any = self
        return type(self), tuple(getattr(self, field.name) for field in fields(values))
