"""Throughput of two coding replicas against one, in one run.

    python -m benchmarks.replicas [--rounds 5] [--seconds 2] [--concurrency 16] [--latents 4x4x192 ...]

One client process keeps `concurrency` unary calls in flight, in turn against one replica and against two
behind gRPC's round_robin; a round measures each once. The table shows medians over the rounds: calls per
second, the ratio within a round, and how many cores the client and the replicas used. All of it runs on one
machine, so the client and both replicas share its cores: the ratio says what a second process brings there,
not what a second machine would. The section of docs/replicas.md between the `replicas` marks is rewritten.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
from rich.progress import track

import entropyd
from benchmarks.page import REPLICAS, rewrite
from benchmarks.service import METHODS, benchmark_config
from entropyd import _channel
from entropyd._compression import Compression
from entropyd._decompression import decompress_request
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Measurement:
    """Replicas under load for a while."""

    calls_per_s: float
    client_cores: float
    server_cores: float


def main() -> None:
    """Measures, prints the table and rewrites the page."""
    arguments = argparse.ArgumentParser(description="two coding replicas against one")
    arguments.add_argument("--rounds", type=int, default=5, help="measurements of each")
    arguments.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    arguments.add_argument("--concurrency", type=int, default=16, help="calls in flight")
    arguments.add_argument("--latents", nargs="+", default=["4x4x192", "16x16x192", "48x32x192"])
    arguments.add_argument("--no-page", action="store_true", help="leave docs/replicas.md as it is")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="entropyd-replicas-") as folder:
        store = Path(folder, "store").as_uri()
        with LocalServer(store=store) as server, entropyd.Client(server.target) as client:
            model = client.create_model(benchmark_config())
            requests = {latents: prepare(model, latents) for latents in options.latents}
        coding = ("--role", "coding")
        with LocalServer(*coding, store=store) as one, LocalServer(*coding, store=store) as other:
            text = table(options, requests, [one, other])
    print(text)
    if not options.no_page:
        rewrite(REPLICAS, "replicas", text)


def prepare(model: entropyd.Model, latents: str) -> dict[str, Any]:
    """A request of each method, for one array that the model's prior fits."""
    shape = [int(axis) for axis in latents.split("x")]
    scale = np.asarray(model.prior.parameters["scale"])
    x = (np.random.default_rng(0).normal(size=(1, *shape)) * scale).astype(np.float32)
    compress = coding_pb2.CompressRequest.FromString(next(Compression(model.info, x).requests())[0])
    return {
        "Compress": compress,
        "Decompress": decompress_request(model.info, model.compress(x), None),
    }


def table(
    options: argparse.Namespace, requests: dict[str, dict[str, Any]], servers: Sequence[LocalServer]
) -> str:
    """Throughput of one replica and of all, and the ratio."""
    rows = [
        f"{os.cpu_count()} cores for client and replicas; {options.concurrency} unary calls in flight; "
        f"medians of {options.rounds} rounds of {options.seconds:g} s.",
        "",
        f"| latents | call | 1 replica/s | {len(servers)} replicas/s | ratio "
        "| cores with 1 (client + server) | cores with all |",
        "|---|---|---|---|---|---|---|",
    ]
    for latents in track(options.latents, "throughput", disable=not sys.stdout.isatty()):
        for method in METHODS:
            request = requests[latents][method]
            pairs = []
            for number in range(options.rounds + 1):
                pair = [measure(group, method, request, options) for group in (servers[:1], servers)]
                if number:
                    pairs.append(pair)
            ratio = median(many.calls_per_s / one.calls_per_s for one, many in pairs)
            rows.append(
                f"| {latents} | {method} | {median(one.calls_per_s for one, _ in pairs):.0f} "
                f"| {median(many.calls_per_s for _, many in pairs):.0f} | {ratio:.2f} "
                f"| {_cores([one for one, _ in pairs])} | {_cores([many for _, many in pairs])} |"
            )
    return "\n".join(rows)


def _cores(measured: list[Measurement]) -> str:
    client, server = median(m.client_cores for m in measured), median(m.server_cores for m in measured)
    return f"{client:.2f} + {server:.2f}"


def measure(
    servers: Sequence[LocalServer], method: str, request: Any, options: argparse.Namespace
) -> Measurement:
    """Keeps calls in flight for a while."""
    # Unix sockets can be named together too; the server's target is unix:PATH.
    paths = ",".join(server.target.removeprefix("unix:") for server in servers)
    processes = [psutil.Process(), *(psutil.Process(server.process.pid) for server in servers)]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    started = time.perf_counter()
    calls = asyncio.run(_load(f"unix:{paths}", method, request, options))
    elapsed_s = time.perf_counter() - started
    after = [sum(process.cpu_times()[:2]) for process in processes]
    cores = [(late - early) / elapsed_s for early, late in zip(before, after, strict=True)]
    return Measurement(calls / elapsed_s, cores[0], sum(cores[1:]))


async def _load(target: str, method: str, request: Any, options: argparse.Namespace) -> int:
    async with grpc.aio.insecure_channel(target, _channel.options(target)) as channel:
        call = getattr(coding_pb2_grpc.CodingServiceStub(channel), method)
        await asyncio.gather(*(call(request) for _ in range(options.concurrency)))
        calls, until = 0, time.perf_counter() + options.seconds

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() < until:
                await call(request)
                calls += 1

        await asyncio.gather(*(caller() for _ in range(options.concurrency)))
        return calls


if __name__ == "__main__":
    main()
