"""Whether what processes hold grows.

The verdict compares the medians of the first and the second half of the time after a warm-up, so no moment's
peak decides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIB = 2**20


@dataclass(frozen=True)
class Quantity:
    """Something that must not grow.

    Attributes:
      name: What it is, with its unit.
      read: Measures it now; None where its process is being replaced.
      allowed: How much larger its median may be in the second half of the time than in the first.
      allowed_ratio: The same, as a part of the earlier median; the larger of both counts.
    """

    name: str
    read: Callable[[], float | None]
    allowed: float
    allowed_ratio: float = 0.0


@dataclass(frozen=True)
class Growth:
    """How a quantity did."""

    name: str
    earlier: float
    later: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than is allowed."""
        return self.later - self.earlier <= self.allowed


class Watch:
    """Samples of quantities over time."""

    def __init__(self, quantities: Iterable[Quantity]) -> None:
        self.quantities = tuple(quantities)
        self.samples: dict[str, list[tuple[float, float]]] = {each.name: [] for each in self.quantities}

    def sample(self, at_s: float) -> None:
        """Measures every quantity."""
        for quantity in self.quantities:
            value = quantity.read()
            if value is not None:
                self.samples[quantity.name].append((at_s, value))

    def growths(self, since_s: float) -> list[Growth]:
        """How each quantity did after a warm-up; needs samples in both halves of the time since then."""
        end_s = max(at_s for samples in self.samples.values() for at_s, _ in samples)
        middle_s = (since_s + end_s) / 2
        return [self._growth(quantity, since_s, middle_s) for quantity in self.quantities]

    def _growth(self, quantity: Quantity, since_s: float, middle_s: float) -> Growth:
        samples = self.samples[quantity.name]
        earlier = median(value for at_s, value in samples if since_s <= at_s < middle_s)
        later = median(value for at_s, value in samples if at_s >= middle_s)
        allowed = max(quantity.allowed, quantity.allowed_ratio * earlier)
        return Growth(quantity.name, earlier, later, allowed)


def of_process(
    name: str, pid: Callable[[], int | None], *, mib: float, descriptors: int, threads: int
) -> list[Quantity]:
    """What a process holds.

    Args:
      name: What it is called.
      pid: Tells its process id, which may change; None while it is being replaced.
      mib: Growth of its memory that is no leak, in MiB; 3 % is none either.
      descriptors: Growth in file descriptors that is no leak.
      threads: Growth in threads that is no leak.
    """

    def read(of: Callable[[psutil.Process], float]) -> Callable[[], float | None]:
        def measure() -> float | None:
            number = pid()
            if number is None:
                return None
            try:
                return of(psutil.Process(number))
            except psutil.NoSuchProcess:
                return None

        return measure

    return [
        Quantity(f"{name}: memory, MiB", read(lambda process: process.memory_info().rss / MIB), mib, 0.03),
        Quantity(f"{name}: file descriptors", read(lambda process: process.num_fds()), descriptors),
        Quantity(f"{name}: threads", read(lambda process: process.num_threads()), threads),
    ]
