"""What the service does with several times as much as it can do, in one run.

    python -m benchmarks.overload [--rounds 5] [--seconds 2] [--latents 48x32x192]

The server has one half of the machine's cores and whoever calls it, over TCP, the other, so that what a
refusal costs the caller is not taken from the server. A round first takes the server's capacity, calls per
second with 16 in flight; then it offers multiples of that, at random times, whether or not earlier calls were
answered. The tables show medians over the rounds; latencies count from the time at which a call left. One
process of Python cannot send much more than twice what a core encodes. The section of docs/performance.md
between the `overload` marks is rewritten.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
import time
from dataclasses import astuple, dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

import grpc
from matplotlib import pyplot as plt
from rich.progress import track
from tests.support.load import free_ports

import entropyd
from benchmarks.machine import machine
from benchmarks.offered_load import Call, offer
from benchmarks.page import PERFORMANCE, PLOTS, rewrite
from benchmarks.service import Load, benchmark_config, load_server, prepare
from entropyd import _channel
from entropyd.v1 import coding_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

MULTIPLES = {"Decompress": (1, 2, 4, 8), "Compress": (1, 1.5, 2)}
CALLERS = (64, 128)
# Calls in flight when capacity is taken: enough to keep the threads busy, and few enough to wait for none.
_CONCURRENCY = 16
# A queue of about a tenth of a second.
_QUEUE_SYMBOLS_PER_THREAD = 12_000_000


@dataclass(frozen=True)
class Outcome:
    """What became of the calls of a while.

    Attributes:
      offered_per_s: Calls that left per second.
      answered_per_s: Calls that were answered well per second.
      share: Those, of the server's capacity in the same round.
      accepted_p50_ms: Their median latency.
      accepted_p99_ms: The latency that one in a hundred of them exceeded.
      refused_p50_ms: Median latency of the calls that were refused; nan where none was.
      refused_p99_ms: The latency that one in a hundred of them exceeded.
    """

    offered_per_s: float
    answered_per_s: float
    share: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float


@dataclass(frozen=True)
class Heeded:
    """What callers came to who come again when they are told to.

    Attributes:
      answered_per_s: Calls that were answered per second, at the first attempt or a later one.
      gave_up_per_s: Calls that were refused at each attempt.
      p50_ms: Median latency of those that were answered, with all attempts.
      p99_ms: The latency that one in a hundred of them exceeded.
    """

    answered_per_s: float
    gave_up_per_s: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Measures, prints the tables and rewrites the page."""
    arguments = argparse.ArgumentParser(description="entropyd, offered several times what it can do")
    arguments.add_argument("--rounds", type=int, default=5, help="measurements of each load")
    arguments.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    arguments.add_argument("--latents", default="48x32x192", help="shape of one coding unit")
    arguments.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    options = arguments.parse_args()
    shape = tuple(int(axis) for axis in options.latents.split("x"))
    with server_apart() as server, entropyd.Client(server.target) as client:
        loads = prepare(client.create_model(benchmark_config()), server.target, shape)
        found: dict[str, list[dict[float, Outcome]]] = {method: [] for method in MULTIPLES}
        heeded: dict[tuple[str, int], list[Heeded]] = {}
        for _ in track(range(options.rounds), "overload", disable=not sys.stdout.isatty()):
            for method, rounds in found.items():
                rounds.append(measure(server.target, loads[method], MULTIPLES[method], options.seconds))
                for callers in CALLERS:
                    came = asyncio.run(heed(server.target, loads[method], callers, options.seconds))
                    heeded.setdefault((method, callers), []).append(came)
    medians = {method: _medians(rounds) for method, rounds in found.items()}
    text = "\n\n".join(
        (
            f"Machine: {machine('grpcio')}; a half of the cores for the server.",
            f"{options.latents}, medians of {options.rounds} rounds of {options.seconds:g} s.",
            table(medians),
            heed_table(heeded, medians),
        )
    )
    print(text)
    if not options.no_page:
        rewrite(PERFORMANCE, "overload", f"{text}\n\n{draw(medians, options.latents)}")


@contextlib.contextmanager
def server_apart() -> Iterator[LocalServer]:
    """A server on one half of the cores, while this process has the other half; on one core they share it."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    servers, callers = cores[:half] or cores, cores[half:]
    threads = len(servers)
    flags = ("--codec-threads", str(threads), "--max-queue-symbols", str(threads * _QUEUE_SYMBOLS_PER_THREAD))
    try:
        os.sched_setaffinity(0, servers)
        with LocalServer(*flags, listen=f"127.0.0.1:{free_ports(1)[0]}") as server:
            os.sched_setaffinity(0, callers)
            yield server
    finally:
        os.sched_setaffinity(0, cores)


def measure(target: str, load: Load, multiples: tuple[float, ...], seconds: float) -> dict[float, Outcome]:
    """Takes the capacity and offers multiples of it; the capacity itself is under 0."""
    taken = asyncio.run(load_server(target, load, seconds, _CONCURRENCY))
    capacity = _CONCURRENCY * len(taken) / sum(taken)
    found = {0.0: Outcome(capacity, capacity, 1.0, *_percentiles_ms(taken), *_percentiles_ms([]))}
    for multiple in multiples:
        calls = itertools.repeat(Call(load.request))
        results = asyncio.run(offer(target, load.method, calls, multiple * capacity, seconds))
        latencies: dict[grpc.StatusCode, list[float]] = {}
        for result in results:
            latencies.setdefault(result.code, []).append(result.ended - result.sent)
        accepted = latencies.pop(grpc.StatusCode.OK)
        refused = latencies.pop(grpc.StatusCode.RESOURCE_EXHAUSTED, [])
        if latencies:
            raise AssertionError(f"calls ended with {sorted(code.name for code in latencies)}")
        answered = len(accepted) / max(result.ended for result in results)
        found[multiple] = Outcome(
            len(results) / max(result.sent for result in results),
            answered,
            answered / capacity,
            *_percentiles_ms(accepted),
            *_percentiles_ms(refused),
        )
    return found


def _percentiles_ms(seconds: list[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return float("nan"), float("nan")
    cuts = quantiles(seconds, n=100)
    return 1e3 * cuts[49], 1e3 * cuts[98]


def _medians(rounds: list[dict[float, Outcome]]) -> dict[float, Outcome]:
    return {
        multiple: Outcome(*map(median, zip(*(astuple(found[multiple]) for found in rounds), strict=True)))
        for multiple in rounds[0]
    }


async def heed(target: str, load: Load, callers: int, seconds: float) -> Heeded:
    """Keeps callers busy who come again when they are told to, as entropyd's clients do."""
    taken: list[float] = []
    gave_up = 0
    async with grpc.aio.insecure_channel(target, _channel.options(target)) as channel:
        call = getattr(coding_pb2_grpc.CodingServiceStub(channel), load.method)
        began = time.perf_counter()

        async def caller() -> None:
            nonlocal gave_up
            while True:
                called = time.perf_counter()
                try:
                    await call(load.request)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    gave_up += 1
                else:
                    taken.append(time.perf_counter() - called)

        # Whoever waits for another attempt when the time is over is let go.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(caller() for _ in range(callers)))
        elapsed = time.perf_counter() - began
    return Heeded(len(taken) / elapsed, gave_up / elapsed, *_percentiles_ms(taken))


def heed_table(heeded: dict[tuple[str, int], list[Heeded]], found: dict[str, dict[float, Outcome]]) -> str:
    """What callers came to who come again when they are told to."""
    rows = [
        "Callers that retry when they are told to, up to four times, each with one call in flight:",
        "",
        "| call | callers | answered/s | of capacity | p50 ms | p99 ms | gave up/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for (method, callers), rounds in heeded.items():
        came = Heeded(*map(median, zip(*map(astuple, rounds), strict=True)))
        share = came.answered_per_s / found[method][0.0].answered_per_s
        figures = f"{came.answered_per_s:.0f} | {share:.2f} | {came.p50_ms:.1f} | {came.p99_ms:.1f}"
        rows.append(f"| {method} | {callers} | {figures} | {came.gave_up_per_s:.1f} |")
    return "\n".join(rows)


def table(found: dict[str, dict[float, Outcome]]) -> str:
    """What was offered and what became of it."""
    rows = [
        "| call | offered, of capacity | offered/s | answered/s | of capacity | accepted p50 ms | p99 ms "
        "| refused p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, outcomes in found.items():
        for multiple, outcome in outcomes.items():
            offered = f"{multiple:g}x" if multiple else f"{_CONCURRENCY} in flight"
            figures = (
                f"{outcome.offered_per_s:.0f} | {outcome.answered_per_s:.0f} | {outcome.share:.2f}",
                f"{outcome.accepted_p50_ms:.1f} | {outcome.accepted_p99_ms:.1f}",
                f"{outcome.refused_p50_ms:.1f} | {outcome.refused_p99_ms:.1f}".replace("nan", "-"),
            )
            rows.append(f"| {method} | {offered} | {' | '.join(figures)} |")
    return "\n".join(rows)


def draw(found: dict[str, dict[float, Outcome]], latents: str) -> str:
    """Draws what was answered, and how fast, against what was offered; gives the line that shows the plot."""
    figure, axes = plt.subplots(2, len(found), figsize=(9, 5.6), squeeze=False, sharex="col")
    for column, (method, outcomes) in enumerate(found.items()):
        answered, latency = axes[:, column]
        capacity, *points = outcomes.values()
        offered = [point.offered_per_s for point in points]
        answered.plot(offered, [point.answered_per_s for point in points], "C0o-", label="answered")
        answered.axhline(capacity.answered_per_s, color="0.6", label=f"{_CONCURRENCY} in flight")
        answered.set(title=f"{method}, {latents}", ylabel="calls/s", ylim=(0, None))
        for name, color, style in (
            ("accepted_p50_ms", "C0", "o-"),
            ("accepted_p99_ms", "C0", "^:"),
            ("refused_p50_ms", "C3", "o-"),
            ("refused_p99_ms", "C3", "^:"),
        ):
            values = [getattr(point, name) for point in points]
            latency.semilogy(
                offered, values, f"{color}{style}", label=name.replace("_", " ").removesuffix(" ms")
            )
        latency.set(xlabel="offered calls/s", ylabel="latency in ms")
        for axis in (answered, latency):
            axis.grid(visible=True, which="both", alpha=0.3)
    for axis in axes[:, -1]:
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PLOTS / "overload.svg", metadata={"Date": None})
    plt.close(figure)
    return "![What is answered, and how fast, of several times too much](performance/overload.svg)"


if __name__ == "__main__":
    main()
