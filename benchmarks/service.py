"""The service against an echo of the same bytes, in one run on one machine.

    python -m benchmarks.service [--rounds 5] [--seconds 2] [--concurrency 16]

One client process keeps `concurrency` unary calls in flight, in turn against entropyd and against a server
that answers prepared bytes of the same sizes. A round measures each once; the table shows medians over the
rounds of the calls per second and of their ratio within a round. Messages are serialised before the clock
starts, so the client costs the same on both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

import entropyd
from entropyd import _calls, priors
from entropyd._pieces import Compression
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LATENTS = ((4, 4, 192), (16, 16, 192), (48, 32, 192))
METHODS = ("Compress", "Decompress")
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Load:
    """What one call sends, and what it is answered."""

    request: bytes
    answer: bytes


def main() -> None:
    """Measures and prints the table."""
    arguments = argparse.ArgumentParser(description="entropyd against an echo of the same bytes")
    arguments.add_argument("--rounds", type=int, default=5, help="measurements of each server")
    arguments.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    arguments.add_argument("--concurrency", type=int, default=16, help="calls in flight")
    options = arguments.parse_args()
    table = Table(title=f"Calls per second, concurrency {options.concurrency}, medians", box=None)
    for column in ("latents", "method", "echo", "entropyd", "of echo", "cost ratio"):
        table.add_column(column, justify="left" if column in {"latents", "method"} else "right")
    with LocalServer() as server, entropyd.Client(server.target) as client:
        model = client.create_model(benchmark_config())
        for shape in LATENTS:
            loads = prepare(model, server.target, shape)
            with echo_server(loads) as echo_target:
                for method in METHODS:
                    ours, echo = measure(server.target, echo_target, method, loads[method], options)
                    ratio = median(a / b for a, b in zip(ours, echo, strict=True))
                    table.add_row(
                        "x".join(str(axis) for axis in shape),
                        method,
                        f"{median(echo):.0f}",
                        f"{median(ours):.0f}",
                        f"{ratio:.2f}",
                        f"{1 / ratio:.2f}",
                    )
    Console().print(table)


def measure(
    ours: str, echo: str, method: str, load: Load, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Calls per second of both servers, round by round, after a round that does not count."""
    rounds = [
        [
            asyncio.run(calls_per_second(target, method, load, options.seconds, options.concurrency))
            for target in (ours, echo)
        ]
        for _ in range(1 + options.rounds)
    ]
    return [rates[0] for rates in rounds[1:]], [rates[1] for rates in rounds[1:]]


def benchmark_config() -> entropyd.UniversalBatchedConfig:
    """192 normal channels of scales 0.1 to 8: 3.7 bits per symbol."""
    prior = priors.NoisyNormal(loc=0.0, scale=np.geomspace(0.1, 8, 192).astype(np.float32))
    return entropyd.UniversalBatchedConfig(prior=prior, coding_rank=3)


def prepare(model: entropyd.Model, target: str, shape: tuple[int, ...]) -> dict[str, Load]:
    """Requests for one array of `shape` that the model's prior fits, with the real answers."""
    scale = np.asarray(model.prior.parameters["scale"])
    x = (np.random.default_rng(0).normal(size=shape) * scale).astype(np.float32)
    decompress = _calls.decompress_request(model.info, model.compress(x), None)
    requests = {
        "Compress": next(Compression(model.info, x).requests())[0].SerializeToString(),
        "Decompress": decompress.SerializeToString(),
    }
    with grpc.insecure_channel(target, _UNLIMITED) as channel:
        return {method: Load(request, raw(channel, method)(request)) for method, request in requests.items()}


def raw(channel: grpc.Channel | grpc.aio.Channel, method: str) -> Any:
    """A method whose messages stay bytes."""
    return channel.unary_unary(f"/entropyd.v1.CodingService/{method}")


@contextlib.contextmanager
def echo_server(loads: dict[str, Load]) -> Iterator[str]:
    """A server that answers the prepared answers."""
    with tempfile.TemporaryDirectory(prefix="entropyd-echo-") as folder:
        for method, load in loads.items():
            Path(folder, method).write_bytes(load.answer)
        target = f"unix:{folder}/socket"
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.peers", target, "echo", folder])
        try:
            with grpc.insecure_channel(target) as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
            yield target
        finally:
            server.terminate()
            server.wait()


async def calls_per_second(target: str, method: str, load: Load, seconds: float, concurrency: int) -> float:
    """Keeps `concurrency` calls in flight for a while and counts those that were answered."""
    async with grpc.aio.insecure_channel(target, _UNLIMITED) as channel:
        call = raw(channel, method)
        if await call(load.request) != load.answer:
            raise AssertionError(f"{method} answered something else than before")
        until = time.perf_counter() + seconds

        async def caller() -> int:
            answered = 0
            while time.perf_counter() < until:
                await call(load.request)
                answered += 1
            return answered

        started = time.perf_counter()
        answered = sum(await asyncio.gather(*(caller() for _ in range(concurrency))))
        return answered / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
