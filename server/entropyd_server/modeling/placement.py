"""Chooses the device for a call with a model: consistent hashing with bounded loads.

Invariants: a model keeps its device while few calls are in flight, so that one process compiles it; no ready
device has more than `_BALANCE` times its share of the calls in flight; adding or losing a device moves no
model between others.

From "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup & Zadimoghaddam, 2018), with calls in flight
as loads.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from math import ceil

_POINTS_PER_DEVICE = 64
_BALANCE = 1.25


class Ring:
    """A hash ring of at least one device."""

    def __init__(self, devices: Sequence[str]) -> None:
        numbers = range(_POINTS_PER_DEVICE)
        self._points = sorted((_position(f"{name} {number}"), name) for name in devices for number in numbers)

    def order(self, model_id: str) -> list[str]:
        """Returns all devices, the model's own first."""
        start = bisect_left(self._points, (_position(model_id), ""))
        return list(dict.fromkeys(device for _, device in self._points[start:] + self._points[:start]))

    def choose(self, model_id: str, loads: Mapping[str, int], ready: Callable[[str], bool]) -> str:
        """Returns the device for one more call, given the calls in flight by device."""
        order = self.order(model_id)
        up = [device for device in order if ready(device)]
        if not up:
            return order[0]
        bound = ceil(_BALANCE * (sum(loads[device] for device in up) + 1) / len(up))
        return next(device for device in up if loads[device] < bound)


def _position(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
