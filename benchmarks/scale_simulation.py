"""A server as queues: what its processes' design allows on more cores than there are.

A process has one thread that receives, parses and answers calls, and as many coding threads as cores; all
of them need one of the process's cores while they work. Each connection belongs to one process, at random, as
with SO_REUSEPORT. Callers send the next call when the last one is answered.

It knows nothing of shared caches, memory bandwidth, priorities of threads or the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simpy

if TYPE_CHECKING:
    from collections.abc import Generator

    from simpy import Environment, Event, Resource

_CONNECTIONS_OF_A_CORE = 16
_CALLS = 6000


@dataclass(frozen=True)
class Setup:
    """A server: how many cores it has, and how many processes share them."""

    cores: int
    processes: int


@dataclass(frozen=True)
class ServiceTimes:
    """Processor time of a call.

    Attributes:
      answering_s: On the thread of a process that receives, parses and answers, and codes small calls.
      coding_s: On the other threads.
    """

    answering_s: float
    coding_s: float


@dataclass(frozen=True)
class _Process:
    cores: Resource
    answering: Resource
    coding: Resource


def simulated(times: ServiceTimes, setup: Setup) -> float:
    """Calls per second of a server that always has enough callers."""
    environment = simpy.Environment()
    shares = np.diff(np.arange(setup.processes + 1) * setup.cores // setup.processes).tolist()
    processes = [
        _Process(*(simpy.Resource(environment, count) for count in (cores, 1, cores))) for cores in shares
    ]
    rng = np.random.default_rng(0)
    answered: list[float] = []
    for chosen in rng.integers(setup.processes, size=_CONNECTIONS_OF_A_CORE * setup.cores):
        environment.process(_caller(environment, processes[chosen], times, rng, answered))
    while len(answered) < _CALLS:
        environment.step()
    # The first half fills the queues.
    begun = answered[_CALLS // 2]
    return (_CALLS - 1 - _CALLS // 2) / (answered[-1] - begun)


def _caller(
    environment: Environment,
    process: _Process,
    times: ServiceTimes,
    rng: np.random.Generator,
    answered: list[float],
) -> Generator[Event]:
    while True:
        for thread, seconds in ((process.answering, times.answering_s), (process.coding, times.coding_s)):
            with thread.request() as busy:
                yield busy
                with process.cores.request() as core:
                    yield core
                    yield environment.timeout(rng.exponential(seconds))
        answered.append(environment.now)
