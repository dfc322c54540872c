"""The service against an echo of the same bytes and against naive servers around TFC, in one run.

    python -m benchmarks.service [--rounds 5] [--seconds 1] [--concurrency 16] [--latents 4x4x192 ...]

One client process keeps `concurrency` unary calls in flight through the generated stub, in turn against each
server; a round measures each once. The tables show medians over the rounds: calls per second, and ratios
within a round. A call costs the client the same on every side: a message serialised and one parsed. All of
it runs on one machine: client and server share its cores. The section of docs/performance.md between the
`service` marks is rewritten.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
from rich.progress import track

import entropyd
from benchmarks import location_scale
from benchmarks.machine import machine
from benchmarks.offered_load import draw, sweep
from benchmarks.page import PERFORMANCE, PLOTS, rewrite
from benchmarks.peers import UNLIMITED
from entropyd import priors
from entropyd._compression import Compression
from entropyd._decompression import decompress_request
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from entropyd_server.transport.polling import read_where_asked

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("Compress", "Decompress")
PEERS = ("echo", "floor", "eager", "function")
# What the batching issue asks for: of echo (Compress, Decompress), over eager, over tf.function.
MUST = {"4x4x192": (0.8, 0.6, 10, 2), "16x16x192": (0.7, 0.5, 6, 2), "48x32x192": (0.7, 0.45, 3.5, 2.5)}


@dataclass(frozen=True)
class Load:
    """What one call sends, and what entropyd answers."""

    method: str
    request: Any
    answer: Any

    def is_right(self, reply: Any) -> bool:
        """Whether a reply holds the same bit strings or values; servers differ in what else they say."""
        return _essence(self.method, reply) == _essence(self.method, self.answer)


@dataclass(frozen=True)
class Measurement:
    """One server under load for a while."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float


def main() -> None:
    """Measures, prints the tables and rewrites the page."""
    arguments = argparse.ArgumentParser(description="entropyd against an echo and against naive servers")
    arguments.add_argument("--rounds", type=int, default=5, help="measurements of each server")
    arguments.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    arguments.add_argument("--concurrency", type=int, default=16, help="calls in flight")
    arguments.add_argument("--latents", nargs="+", default=list(MUST), help="shapes of one coding unit")
    arguments.add_argument(
        "--peers", nargs="+", default=list(PEERS), choices=PEERS, help="servers to compare with"
    )
    arguments.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    options = arguments.parse_args()
    with LocalServer() as server, entropyd.Client(server.target) as client:
        model = client.create_model(benchmark_config())
        sections = [
            f"Machine: {machine('grpcio', 'protobuf', 'tensorflow-compression')}.",
            table(options, model, server),
            latency(options, model, server),
            streams(options, model, server),
            indexed(options, client, server),
        ]
        if not options.no_page:
            sections.append(offered_load(options, model, server))
    text = "\n\n".join(sections)
    print(text)
    if not options.no_page:
        rewrite(PERFORMANCE, "service", text)


def benchmark_config() -> entropyd.UniversalBatchedConfig:
    """192 normal channels of scales 0.1 to 8, linear: 3.7 bits per symbol."""
    prior = priors.NoisyNormal(loc=0.0, scale=np.linspace(0.1, 8, 192).astype(np.float32))
    return entropyd.UniversalBatchedConfig(prior=prior, coding_rank=3)


def table(options: argparse.Namespace, model: entropyd.Model, server: LocalServer) -> str:
    """Throughput of every server and its ratios, and entropyd's latency and CPU."""
    rows = [
        f"Concurrency {options.concurrency}, unary calls, medians of {options.rounds} rounds of "
        f"{options.seconds:g} s; ratios are medians of the ratios within a round.",
        "",
        "| latents | call | echo/s | entropyd/s | of echo (must) | floor, of echo | over eager (must) "
        "| over tf.function (must) | p50 ms | p99 ms | server CPU us (echo's) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for latents in track(options.latents, "throughput", disable=not sys.stdout.isatty()):
        loads = prepare(model, server.target, tuple(int(axis) for axis in latents.split("x")))
        for method in METHODS:
            with contextlib.ExitStack() as stack:
                servers = {"entropyd": (server.target, server.process.pid)}
                for kind in options.peers:
                    servers[kind] = stack.enter_context(peer(kind, loads, model))
                found = rounds(servers, loads[method], options)
            rows.append(_row(latents, method, found))
    return "\n".join(rows)


def _row(latents: str, method: str, found: dict[str, list[Measurement]]) -> str:
    must = MUST.get(latents, (0, 0, 0, 0))
    of_echo_must = must[METHODS.index(method)]

    def ratio(kind: str, name: str = "entropyd") -> str:
        if kind not in found or name not in found:
            return "-"
        pairs = zip(found[name], found[kind], strict=True)
        return f"{median(a.calls_per_s / b.calls_per_s for a, b in pairs):.2f}"

    ours = found["entropyd"]
    echo = found.get("echo", ours)
    return (
        f"| {latents} | {method} | {median(m.calls_per_s for m in echo):.0f} "
        f"| {median(m.calls_per_s for m in ours):.0f} | {ratio('echo')} ({of_echo_must}) "
        f"| {ratio('echo', 'floor')} | {ratio('eager')} ({must[2]}) | {ratio('function')} ({must[3]}) "
        f"| {median(m.p50_ms for m in ours):.2f} | {median(m.p99_ms for m in ours):.2f} "
        f"| {median(m.server_cpu_us for m in ours):.0f} ({median(m.server_cpu_us for m in echo):.0f}) |"
    )


def latency(options: argparse.Namespace, model: entropyd.Model, server: LocalServer) -> str:
    """Latency of one caller at a time, against the echo's and that of an echo on entropyd's transport."""
    one = argparse.Namespace(**{**vars(options), "concurrency": 1})
    rows = [
        "Concurrency 1, 4x4x192; must: within 1.3 of echo.",
        "",
        "| call | echo p50 ms | entropyd p50 ms | of echo | floor, of echo |",
        "|---|---|---|---|---|",
    ]
    loads = prepare(model, server.target, (4, 4, 192))
    with peer("echo", loads, model) as echo, peer("floor", loads, model) as floor:
        servers = {"entropyd": (server.target, server.process.pid), "echo": echo, "floor": floor}
        for method in METHODS:
            p50_ms = {
                kind: [measured.p50_ms for measured in found]
                for kind, found in rounds(servers, loads[method], one).items()
            }
            ratios = [
                median(a / b for a, b in zip(p50_ms[kind], p50_ms["echo"], strict=True))
                for kind in ("entropyd", "floor")
            ]
            rows.append(
                f"| {method} | {median(p50_ms['echo']):.3f} | {median(p50_ms['entropyd']):.3f} "
                f"| {ratios[0]:.2f} | {ratios[1]:.2f} |"
            )
    return "\n".join(rows)


def streams(options: argparse.Namespace, model: entropyd.Model, server: LocalServer) -> str:
    """Messages per second of one stream, against unary calls."""
    rows = [
        "One stream with 64 messages on their way, against 64 unary calls in flight, 4x4x192; must: 1.3.",
        "",
        "| call | unary/s | stream/s | ratio |",
        "|---|---|---|---|",
    ]
    loads = prepare(model, server.target, (4, 4, 192))
    for method in METHODS:
        unary, stream = [], []
        for _ in range(options.rounds + 1):
            measured = asyncio.run(load_server(server.target, loads[method], options.seconds, 64))
            unary.append(len(measured) / options.seconds)
            stream.append(asyncio.run(stream_rate(server.target, loads[method], options.seconds, 64)))
        pairs = list(zip(unary[1:], stream[1:], strict=True))
        rows.append(
            f"| {method} | {median(a for a, _ in pairs):.0f} | {median(b for _, b in pairs):.0f} "
            f"| {median(b / a for a, b in pairs):.2f} |"
        )
    return "\n".join(rows)


def indexed(options: argparse.Namespace, client: entropyd.Client, server: LocalServer) -> str:
    """Throughput of a model with indexes, against a naive server around TFC's class."""
    model = client.create_model(location_scale.config())
    with peer("location_scale", {}, model) as (target, _):
        return location_scale.table(options, model, server.target, target)


def offered_load(options: argparse.Namespace, model: entropyd.Model, server: LocalServer) -> str:
    """Draws throughput and latency against offered load, up to half as much again as entropyd can take."""
    loads = prepare(model, server.target, (4, 4, 192))
    with peer("echo", loads, model) as (echo, _):
        curves = {}
        for method, load in loads.items():
            taken = asyncio.run(load_server(server.target, load, options.seconds, options.concurrency))
            capacity = len(taken) / options.seconds
            targets = {"entropyd": server.target, "echo": echo}
            curves[method] = {
                name: sweep(target, method, load.request, capacity) for name, target in targets.items()
            }
    return draw(curves, PLOTS)


def prepare(model: entropyd.Model, target: str, shape: tuple[int, ...]) -> dict[str, Load]:
    """Requests for one array of `shape` that the model's prior fits, with the real answers."""
    scale = np.asarray(model.prior.parameters["scale"])
    x = (np.random.default_rng(0).normal(size=(1, *shape)) * scale).astype(np.float32)
    decompress = decompress_request(model.info, model.compress(x), None)
    requests = {
        "Compress": coding_pb2.CompressRequest.FromString(next(Compression(model.info, x).requests())[0]),
        "Decompress": decompress,
    }
    with grpc.insecure_channel(target, UNLIMITED) as channel:
        stub = coding_pb2_grpc.CodingServiceStub(channel)
        return {
            method: Load(method, request, getattr(stub, method)(request))
            for method, request in requests.items()
        }


def _essence(method: str, reply: Any) -> bytes:
    payload: bytes = reply.compressed.payload if method == "Compress" else reply.tensor.data
    return payload


@contextlib.contextmanager
def peer(kind: str, loads: dict[str, Load], model: entropyd.Model) -> Iterator[tuple[str, int]]:
    """A server to compare with: its target and process id."""
    with tempfile.TemporaryDirectory(prefix="entropyd-peer-") as folder:
        for method, load in loads.items():
            Path(folder, method).write_bytes(load.answer.SerializeToString())
        Path(folder, "config.json").write_text(json.dumps(model.config.to_dict()))
        target = f"unix:{folder}/socket"
        command = [sys.executable, "-m", "benchmarks.peers", target, kind, folder]
        environment = dict(os.environ)
        if kind == "floor":
            read_where_asked(environment)
        log = Path(folder, "log")
        server = subprocess.Popen(command, stderr=log.open("w"), env=environment)
        try:
            while not _answers(target):
                if server.poll() is not None:
                    raise RuntimeError(f"the {kind} server ended:\n{log.read_text()}")
            yield target, server.pid
        finally:
            server.terminate()
            server.wait()


def _answers(target: str) -> bool:
    # A channel of its own each time: one that failed to connect waits longer and longer.
    with grpc.insecure_channel(target) as channel, contextlib.suppress(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=1)
        return True
    return False


def rounds(
    servers: dict[str, tuple[str, int]], load: Load, options: argparse.Namespace
) -> dict[str, list[Measurement]]:
    """Measures every server once per round, after a round that does not count."""
    found: dict[str, list[Measurement]] = {kind: [] for kind in servers}
    for number in range(options.rounds + 1):
        for kind, (target, pid) in servers.items():
            process = psutil.Process(pid)
            before = sum(process.cpu_times()[:2])
            started = time.perf_counter()
            seconds = asyncio.run(load_server(target, load, options.seconds, options.concurrency))
            elapsed = time.perf_counter() - started
            cpu_s = sum(process.cpu_times()[:2]) - before
            if number:
                cuts = quantiles(seconds, n=100)
                found[kind].append(
                    Measurement(
                        len(seconds) / elapsed, 1e3 * cuts[49], 1e3 * cuts[98], 1e6 * cpu_s / len(seconds)
                    )
                )
    return found


async def load_server(target: str, load: Load, seconds: float, concurrency: int) -> list[float]:
    """Keeps calls in flight for a while; the seconds that each took."""
    async with grpc.aio.insecure_channel(target, UNLIMITED) as channel:
        stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
        call = getattr(stub, load.method)
        if not load.is_right(await call(load.request)):
            raise AssertionError(f"{load.method} answered something else than expected")
        taken: list[float] = []
        until = time.perf_counter() + seconds

        async def caller() -> None:
            started = time.perf_counter()
            while started < until:
                await call(load.request)
                ended = time.perf_counter()
                taken.append(ended - started)
                started = ended

        await asyncio.gather(*(caller() for _ in range(concurrency)))
        return taken


async def stream_rate(target: str, load: Load, seconds: float, inflight: int) -> float:
    """Messages per second of one stream with `inflight` messages on their way."""
    message = getattr(coding_pb2, f"{load.method}StreamRequest")(request_id="0", request=load.request)
    async with grpc.aio.insecure_channel(target, UNLIMITED) as channel:
        stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
        call = getattr(stub, f"{load.method}Stream")()
        window = asyncio.Semaphore(inflight)

        async def write() -> None:
            while True:
                await window.acquire()
                await call.write(message)

        writing = asyncio.create_task(write())
        answered = 0
        started = time.perf_counter()
        while time.perf_counter() < started + seconds:
            await call.read()
            window.release()
            answered += 1
        elapsed = time.perf_counter() - started
        writing.cancel()
        call.cancel()
        return answered / elapsed


if __name__ == "__main__":
    main()
