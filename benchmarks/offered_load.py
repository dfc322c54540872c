"""Calls that leave at random times at a given rate, whether or not earlier ones were answered.

So a server that falls behind shows it. Used by `benchmarks.service` for throughput and latency against
offered load, by `benchmarks.overload` and by `benchmarks.affinity`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import grpc
import matplotlib as mpl
import numpy as np

from benchmarks.peers import UNLIMITED
from entropyd.v1 import coding_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "entropyd"
from matplotlib import pyplot as plt  # noqa: E402 - after the choice of the backend

_FRACTIONS = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
_SECONDS = 1.5
_TIMEOUT_S = 2.0
# One connection carries 1024 calls at a time; of more, gRPC drops some.
_CONNECTIONS = 4


@dataclass(frozen=True)
class Call:
    """What one call sends."""

    request: Any
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Result:
    """One call, its times in seconds since the first one was due.

    Attributes:
      due: When it should have left.
      sent: When it left.
      ended: When its answer was there.
      code: The status that it ended with.
    """

    due: float
    sent: float
    ended: float
    code: grpc.StatusCode


@dataclass(frozen=True)
class Point:
    """What a server did under one load.

    Attributes:
      offered_per_s: Calls that were due per second.
      answered_per_s: Calls that were answered well per second.
      p50_ms: Median latency of those, counted from the time at which they were due.
      p99_ms: Latency that one in a hundred of those exceeded.
    """

    offered_per_s: float
    answered_per_s: float
    p50_ms: float
    p99_ms: float


def sweep(target: str, method: str, request: Any, capacity_per_s: float) -> list[Point]:
    """Offers a server fractions of a rate, from a tenth to half as much again."""
    points = []
    for fraction in _FRACTIONS:
        calls = itertools.repeat(Call(request))
        results = asyncio.run(offer(target, method, calls, fraction * capacity_per_s, _SECONDS))
        seconds = [result.ended - result.due for result in results if result.code is grpc.StatusCode.OK]
        cuts = quantiles(seconds, n=100)
        elapsed = max(result.ended for result in results)
        offered = len(results) / max(result.due for result in results)
        points.append(Point(offered, len(seconds) / elapsed, 1e3 * cuts[49], 1e3 * cuts[98]))
    return points


def draw(curves: dict[str, dict[str, list[Point]]], folder: Path) -> str:
    """Draws method -> server -> points; gives the page's line that shows the plot."""
    figure, axes = plt.subplots(2, len(curves), figsize=(9, 5.6), squeeze=False, sharex="col")
    for column, (method, servers) in enumerate(curves.items()):
        answered, latency = axes[:, column]
        for color, (server, points) in zip(("C0", "C7"), servers.items(), strict=True):
            offered = [point.offered_per_s for point in points]
            answered.plot(offered, [point.answered_per_s for point in points], f"{color}o-", label=server)
            latency.semilogy(offered, [point.p50_ms for point in points], f"{color}o-", label=f"{server} p50")
            latency.semilogy(offered, [point.p99_ms for point in points], f"{color}^:", label=f"{server} p99")
        answered.axline((0, 0), slope=1, color="0.8", zorder=0)
        answered.set(title=f"{method}, 4x4x192", ylabel="answered calls/s", ylim=(0, None))
        latency.set(xlabel="offered calls/s", ylabel="latency in ms")
        for axis in (answered, latency):
            axis.grid(visible=True, which="both", alpha=0.3)
            axis.legend(fontsize=7)
    figure.tight_layout()
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "offered-load.svg", metadata={"Date": None})
    plt.close(figure)
    return "![Answered calls and latency against offered load](performance/offered-load.svg)"


async def offer(
    target: str, method: str, calls: Iterator[Call], rate_per_s: float, seconds: float
) -> list[Result]:
    """Makes calls that are due at random times; waits for all of them."""
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate_per_s, int(rate_per_s * seconds)))
    results: list[Result] = []
    async with AsyncExitStack() as stack:
        senders = []
        for _ in range(_CONNECTIONS):
            options = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options))
            senders.append(getattr(coding_pb2_grpc.CodingServiceStub(channel), method))
            first = next(calls)
            await senders[-1](first.request, metadata=first.metadata)
        turns = itertools.cycle(senders)
        begin = time.perf_counter()

        async def call(due_at: float) -> None:
            sent, code = time.perf_counter() - begin, grpc.StatusCode.OK
            try:
                chosen = next(calls)
                await next(turns)(chosen.request, metadata=chosen.metadata, timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                code = error.code()
            results.append(Result(due_at, sent, time.perf_counter() - begin, code))

        async with asyncio.TaskGroup() as group:
            for due_at in due.tolist():
                await asyncio.sleep(max(due_at - (time.perf_counter() - begin), 0))
                group.create_task(call(due_at))
    return results
