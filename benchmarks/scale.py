"""How throughput grows with cores and processes: measured on the cores at hand, simulated beyond.

    python -m benchmarks.scale [--seconds 2] [--cores 16] [--no-page]        (make bench-scale)

Needs no TensorFlow and no network. The server runs on the first cores (taskset), as one process and as one
for every two of them; callers run on the other cores, and share the server's where it has all. A caller sends
prepared requests through the generated stub, so that as little as possible of a call is its own.

The simulation is of queues (`benchmarks.scale_simulation`), with the service times of the run on one core.
The section of docs/performance.md between the `scale` marks is rewritten, and its plot.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import matplotlib as mpl
import numpy as np
import psutil
from rich.progress import track

import entropyd
from benchmarks.coder_cases import IndexedCase
from benchmarks.machine import machine
from benchmarks.page import PERFORMANCE, PLOTS, rewrite
from benchmarks.scale_simulation import ServiceTimes, Setup, simulated
from entropyd._compression import Compression
from entropyd._decompression import decompress_request
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from entropyd_server.machine import cores

if TYPE_CHECKING:
    from collections.abc import Iterator

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "entropyd"
from matplotlib import pyplot as plt  # noqa: E402 - after the choice of the backend

LATENTS = ((4, 4, 192), (48, 32, 192))
METHODS = ("Compress", "Decompress")
# Of each caller process. One connection reaches one process of the server.
_CONNECTIONS, _CALLS_OF_A_CONNECTION = 8, 2

Call = tuple[str, str]  # latents and method
Requests = dict[Call, bytes]


@dataclass(frozen=True)
class Work:
    """What callers send to a server, as a serialised message, and for how long."""

    target: str
    method: str
    request: bytes
    seconds: float


@dataclass(frozen=True)
class Measurement:
    """A server under load for a while."""

    calls_per_s: float
    times: ServiceTimes


def main() -> None:
    """Measures, simulates, prints the table and rewrites the page."""
    parser = argparse.ArgumentParser(description="throughput against cores and processes")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--cores", type=int, default=16, help="how far to simulate")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    options = parser.parse_args()
    available = cores()
    shown = list(setups(len(available)))
    measured: dict[Call, dict[Setup, Measurement]] = {}
    for setup in track(shown, "measuring", disable=not sys.stdout.isatty()):
        for call, found in measure(setup, available, options.seconds).items():
            measured.setdefault(call, {})[setup] = found
    text = "\n\n".join(
        [
            f"Machine: {machine('grpcio', 'protobuf', 'simpy')}.",
            table(measured, options.cores),
            "\n".join(limits(measured)),
            draw(measured, options.cores, write=not options.no_page),
        ]
    )
    print(text)
    if not options.no_page:
        rewrite(PERFORMANCE, "scale", text)


def setups(cores: int) -> Iterator[Setup]:
    """Powers of two up to all cores, as one process and as one for every two cores."""
    used = 1
    while used <= cores:
        for processes in sorted({1, max(1, used // 2)}):
            yield Setup(used, processes)
        used *= 2


def measure(setup: Setup, available: list[int], seconds: float) -> dict[Call, Measurement]:
    """Puts a server on its cores under load, with each of the calls."""
    own, others = available[: setup.cores], available[setup.cores :] or available

    class Server(LocalServer):
        _program = ("taskset", "--cpu-list", ",".join(map(str, own)), sys.executable, "-m", "entropyd_server")

    flags = ("--role", "coding,registry", "--processes", str(setup.processes))
    found = {}
    with Server(*flags, listen="127.0.0.1:0") as server:
        with entropyd.Client(server.target) as client:
            requests = prepared(client)
        for call, request in requests.items():
            found[call] = load(server, Work(server.target, call[1], request, seconds), others)
    return found


def prepared(client: entropyd.Client) -> Requests:
    """Requests of arrays that the rows of a model without a prior fit: 192 channels of scales 0.1 to 8."""
    case = IndexedCase(1, 4, 4, scales=192, low_scale=0.1, high_scale=8.0)
    config = entropyd.TabulatedConfig.of_tables(
        case.tables(case.precision), coding_rank=3, row_by="position", row_shape=(192,)
    )
    model = client.create_model(config)
    requests = {}
    for shape in LATENTS:
        x = (np.random.default_rng(0).normal(size=(1, *shape)) * case.scale).astype(np.float32)
        latents = "x".join(map(str, shape))
        requests[latents, "Compress"] = next(Compression(model.info, x).requests())[0]
        decompress = decompress_request(model.info, model.compress(x), None)
        requests[latents, "Decompress"] = decompress.SerializeToString()
    return requests


def load(server: LocalServer, work: Work, cores: list[int]) -> Measurement:
    """Calls a server from a process on each of these cores."""
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(len(cores) + 1), context.SimpleQueue()
    callers = [context.Process(target=_caller, args=(work, core, begin, results)) for core in cores]
    for caller in callers:
        caller.start()
    begin.wait()
    before, started = _spent(server), time.perf_counter()
    calls = sum(results.get() for _ in callers)
    elapsed_s = time.perf_counter() - started
    used = {thread: seconds - before.get(thread, 0.0) for thread, seconds in _spent(server).items()}
    for caller in callers:
        caller.join()
    # Coding threads have a lower priority; of a process's others, the one that answers is the busiest.
    busiest: dict[int, float] = {}
    for (process, _, niceness), seconds in used.items():
        if niceness == 0:
            busiest[process] = max(busiest.get(process, 0.0), seconds)
    answering = sum(busiest.values())
    return Measurement(
        calls / elapsed_s, ServiceTimes(answering / calls, (sum(used.values()) - answering) / calls)
    )


def _spent(server: LocalServer) -> dict[tuple[int, int, int], float]:
    """Processor time so far, in seconds, of each thread: its process, number and niceness."""
    parent = psutil.Process(server.process.pid)
    spent = {}
    for process in (parent, *parent.children(recursive=True)):
        for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
            fields = stat.read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            spent[process.pid, int(stat.parent.name), int(fields[16])] = ticks / os.sysconf("SC_CLK_TCK")
    return spent


def _caller(work: Work, core: int, begin: Any, results: Any) -> None:
    """Runs in a process of its own: puts the number of calls that were answered into `results`."""
    os.sched_setaffinity(0, {core})
    results.put(asyncio.run(_calls(work, begin)))


async def _calls(work: Work, begin: Any) -> int:
    kind = coding_pb2.CompressRequest if work.method == "Compress" else coding_pb2.DecompressRequest
    message = kind.FromString(work.request)
    async with AsyncExitStack() as stack:
        senders = []
        for _ in range(_CONNECTIONS):
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(work.target, options))
            senders.append(getattr(coding_pb2_grpc.CodingServiceStub(channel), work.method))
            await senders[-1](message)
        await asyncio.to_thread(begin.wait)
        calls, until = 0, time.perf_counter() + work.seconds

        async def send(sender: Any) -> None:
            nonlocal calls
            while time.perf_counter() < until:
                await sender(message)
                calls += 1

        await asyncio.gather(*(send(sender) for sender in senders * _CALLS_OF_A_CONNECTION))
        return calls


def table(measured: dict[Call, dict[Setup, Measurement]], cores: int) -> str:
    """Calls per second of every setup, as measured and as simulated."""
    rows = [
        "| call | cores | processes | calls/s, measured | calls/s, simulated |",
        "|---|---|---|---|---|",
    ]
    for (latents, method), found in measured.items():
        times = found[Setup(1, 1)].times
        for setup in setups(cores):
            seen = f"{found[setup].calls_per_s:.0f}" if setup in found else "needs a larger machine"
            rows.append(
                f"| {method} {latents} | {setup.cores} | {setup.processes} | {seen} "
                f"| {simulated(times, setup):.0f} |"
            )
    return "\n".join(rows)


def limits(measured: dict[Call, dict[Setup, Measurement]]) -> Iterator[str]:
    """What limits each call first, and at which rate, by the service times on one core."""
    for (latents, method), found in measured.items():
        times = found[Setup(1, 1)].times
        total = times.answering_s + times.coding_s
        yield (
            f"- {method} {latents}: {1e6 * times.answering_s:.0f} us of a call on the thread that answers, "
            f"{1e6 * times.coding_s:.0f} us on others. A core ends at {1 / total:.0f} calls/s, a process at "
            f"{1 / times.answering_s:.0f}: then its thread that answers is always busy, and its threads use "
            f"{total / times.answering_s:.1f} cores."
        )


def draw(measured: dict[Call, dict[Setup, Measurement]], cores: int, *, write: bool) -> str:
    """Draws measured points over simulated curves; gives the page's line that shows the plot."""
    figure, axes = plt.subplots(1, len(measured), figsize=(3.2 * len(measured), 3.4), sharex=True)
    for axis, ((latents, method), found) in zip(axes, measured.items(), strict=True):
        times = found[Setup(1, 1)].times
        for color, of_pairs, label in (("C7", False, "one process"), ("C0", True, "a process for 2 cores")):
            chosen = [
                setup
                for setup in setups(cores)
                if setup.processes == (max(1, setup.cores // 2) if of_pairs else 1)
            ]
            rates = [simulated(times, setup) for setup in chosen]
            axis.plot([setup.cores for setup in chosen], rates, f"{color}--", label=f"{label}, simulated")
            seen = [(setup.cores, found[setup].calls_per_s) for setup in chosen if setup in found]
            axis.plot(*zip(*seen, strict=True), f"{color}o", label=f"{label}, measured")
        axis.set(title=f"{method} {latents}", xlabel="cores", ylim=(0, None))
        axis.grid(visible=True, alpha=0.3)
    axes[0].set(ylabel="calls/s")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    if write:
        PLOTS.mkdir(exist_ok=True)
        figure.savefig(PLOTS / "scale.svg", metadata={"Date": None})
    plt.close(figure)
    return "![Calls per second against cores, measured and simulated](performance/scale.svg)"


if __name__ == "__main__":
    main()
