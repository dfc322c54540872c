"""Symbols and values on the wire: entropyd's client with arrays, against an echo of float32 messages.

    python -m benchmarks.wires [--rounds 5] [--seconds 1] [--concurrency 16] [--latents 4x4x192 ...]

The client is given arrays for every call, so its work on them counts. The echo is sent the same request with
float32 through the generated stub, and answers prepared bytes of float32. All of it runs on one machine:
client and server share its cores. A round measures each once; ratios are medians of the ratios within a
round. Then one caller alone against TFC in the same process, a link of 1 Gbit/s between two network
namespaces (needs root), and the memory that a call of 64 MB takes. The section of docs/performance.md between
the `wires` marks is rewritten.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
from math import prod
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
from rich.progress import track

import entropyd
import entropyd.aio
from benchmarks.coder_peers import median_seconds
from benchmarks.location_scale import rate
from benchmarks.machine import machine
from benchmarks.page import PERFORMANCE, rewrite
from benchmarks.peers import UNLIMITED
from benchmarks.service import METHODS, benchmark_config, peer, prepare
from entropyd._compression import Compression
from entropyd._decompression import Decompression
from entropyd._symbols import Symbols
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import numpy.typing as npt

    from benchmarks.service import Load
    from entropyd._settings import Wire

    Array = npt.NDArray[np.float32]

WIRES: tuple[Wire, ...] = ("symbols", "float")
# What symbols must reach: of echo (Compress, Decompress).
MUST = {"48x32x192": (1.0, 0.8), "16x16x192": (1.1, 0.9), "4x4x192": (0.9, 0.98)}
LINK_MUST = 3
ALONE_MUST = (1.0, 0.7)
_LARGE_UNITS = 56  # of 48x32x192: 64 MB of float32
_NAMESPACE, _DEVICE, _PEER = "entropyd-wires", "ed-wires0", "ed-wires1"
_HERE, _THERE = "10.213.77.1", "10.213.77.2"


def main() -> None:
    """Measures, prints the tables and rewrites the page."""
    arguments = argparse.ArgumentParser(description="symbols and values on the wire, against an echo")
    arguments.add_argument("--rounds", type=int, default=5, help="measurements of each server")
    arguments.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    arguments.add_argument("--concurrency", type=int, default=16, help="calls in flight")
    arguments.add_argument("--latents", nargs="+", default=list(MUST), help="shapes of one coding unit")
    arguments.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    options = arguments.parse_args()
    with LocalServer() as server, entropyd.Client(server.target) as client:
        model = client.create_model(benchmark_config())
        sections = [
            f"Machine: {machine('grpcio', 'protobuf', 'tensorflow-compression')}.",
            throughput(options, model, server.target),
            alone(options, model, server.target),
            memory(model, server),
        ]
    sections.insert(-1, link(options))
    text = "\n\n".join(sections)
    print(text)
    if not options.no_page:
        rewrite(PERFORMANCE, "wires", text)


def bottleneck(model: entropyd.Model, shape: tuple[int, ...]) -> Array:
    """float32 [units, height, width, channels] that the model's prior fits."""
    scale = np.asarray(model.prior.parameters["scale"])
    array: Array = (np.random.default_rng(0).normal(size=shape) * scale).astype(np.float32)
    return array


def throughput(options: argparse.Namespace, model: entropyd.Model, target: str) -> str:
    """Calls per second of both wires, and of the echo."""
    rows = [
        f"Concurrency {options.concurrency}, entropyd's asyncio client with arrays, medians of "
        f"{options.rounds} rounds of {options.seconds:g} s. Bytes are those of a request and a response for "
        "each symbol.",
        "",
        "| latents | call | echo/s | symbols/s | float/s | symbols, of echo (must) | float, of echo "
        "| bytes up, down: symbols | float |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for latents in track(options.latents, "throughput", disable=not sys.stdout.isatty()):
        shape = tuple(int(axis) for axis in latents.split("x"))
        x = bottleneck(model, (1, *shape))
        loads = prepare(model, target, shape)
        for method in METHODS:
            with peer("echo", loads, model) as (echo, _):
                found = [
                    asyncio.run(_round(options, (target, echo), model.id, loads[method], x))
                    for _ in range(options.rounds + 1)
                ][1:]
            echoes, symbols, floats = (median(one[place] for one in found) for place in range(3))
            of_echo = [median(one[place] / one[0] for one in found) for place in (1, 2)]
            must = MUST.get(latents, (0, 0))[METHODS.index(method)]
            sizes = [_bytes_per_symbol(model, target, wire, method, x) for wire in WIRES]
            rows.append(
                f"| {latents} | {method} | {echoes:.0f} | {symbols:.0f} | {floats:.0f} "
                f"| {of_echo[0]:.2f} ({must}) | {of_echo[1]:.2f} | {sizes[0]} | {sizes[1]} |"
            )
    return "\n".join(rows)


async def _round(
    options: argparse.Namespace, targets: tuple[str, str], model_id: str, load: Load, x: Array
) -> tuple[float, ...]:
    """Calls per second of the echo, and of both wires."""
    async with contextlib.AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(targets[1], UNLIMITED))
        echoed = getattr(coding_pb2_grpc.CodingServiceStub(channel), load.method)
        calls: list[Callable[[], Awaitable[Any]]] = [lambda: echoed(load.request)]
        for wire in WIRES:
            client = await stack.enter_async_context(entropyd.aio.Client(targets[0], wire=wire))
            calls.append(await _call(client, model_id, load.method, x))
        return tuple([await rate(call, options) for call in calls])


async def _call(
    client: entropyd.aio.Client, model_id: str, method: str, x: Array
) -> Callable[[], Awaitable[Any]]:
    model = await client.model(model_id)
    compressed = await model.compress(x)
    if method == "Compress":
        return lambda: model.compress(x)
    return lambda: model.decompress(compressed)


def _bytes_per_symbol(model: entropyd.Model, target: str, wire: Wire, method: str, x: Array) -> str:
    """Bytes of the request and of the response."""
    work: Any = (
        Compression(model.info, x) if method == "Compress" else Decompression(model.info, model.compress(x))
    )
    work.symbols = Symbols(model.config) if wire == "symbols" else None
    ((request, _),) = work.requests()
    with grpc.insecure_channel(target, UNLIMITED) as channel:
        response: bytes = channel.unary_unary(f"/entropyd.v1.CodingService/{method}")(request)
    return f"{len(request) / x.size:.2f}, {len(response) / x.size:.2f}"


def alone(options: argparse.Namespace, model: entropyd.Model, target: str) -> str:
    """Latency of one caller of one large unit, against TFC in this process, with one thread."""
    import tensorflow as tf  # noqa: PLC0415 - seconds, and only here

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from tests.support.tfc_models import tfc_model  # noqa: PLC0415 - imports TensorFlow

    x = bottleneck(model, (1, 48, 32, 192))
    local = tfc_model(model.config)
    compress, given = tf.function(local.compress), tf.constant(x)
    strings = compress(given)
    decompress = tf.function(lambda strings: local.decompress(strings, (48, 32)))
    clients = [entropyd.Client(target, wire=wire) for wire in WIRES]
    models = [client.model(model.id) for client in clients]
    compressed = models[0].compress(x)
    if compressed.strings.tolist() != strings.numpy().tolist():
        raise AssertionError("TFC's strings are others")
    calls: dict[str, list[Callable[[], Any]]] = {
        "Compress": [lambda: compress(given).numpy(), *(_compressing(own, x) for own in models)],
        "Decompress": [
            lambda: decompress(strings).numpy(),
            *(_decompressing(own, compressed) for own in models),
        ],
    }
    rows = [
        "One caller, one unit of 48x32x192, milliseconds; TFC in the caller's process, in a tf.function with "
        "one thread.",
        "",
        "| call | TFC | symbols | float | symbols, of TFC (must) | float, of TFC |",
        "|---|---|---|---|---|---|",
    ]
    for method, must in zip(METHODS, ALONE_MUST, strict=True):
        found = [
            [median_seconds(call, options.seconds / 2)[0] for call in calls[method]]
            for _ in range(options.rounds + 1)
        ][1:]
        theirs, *ours = (1e3 * median(one[place] for one in found) for place in range(3))
        of_theirs = [median(one[place] / one[0] for one in found) for place in (1, 2)]
        rows.append(
            f"| {method} | {theirs:.2f} | {ours[0]:.2f} | {ours[1]:.2f} | {of_theirs[0]:.2f} ({must}) "
            f"| {of_theirs[1]:.2f} |"
        )
    for client in clients:
        client.close()
    return "\n".join(rows)


def _compressing(model: entropyd.Model, x: Array) -> Callable[[], Any]:
    return lambda: model.compress(x)


def _decompressing(model: entropyd.Model, compressed: Any) -> Callable[[], Any]:
    return lambda: model.decompress(compressed)


def link(options: argparse.Namespace) -> str:
    """Units per second over a link of 1 Gbit/s each way."""
    with contextlib.ExitStack() as stack:
        try:
            program = stack.enter_context(_namespace())
        except (OSError, subprocess.CalledProcessError) as error:
            return f"A link of 1 Gbit/s was not measured: {error}."
        server = LocalServer(listen=f"{_THERE}:7070")
        server._program = (*program, sys.executable, "-m", "entropyd_server")  # noqa: SLF001 - runs it there
        stack.enter_context(server)
        model = stack.enter_context(entropyd.Client(server.target)).create_model(benchmark_config())
        x = bottleneck(model, (1, 48, 32, 192))

        async def both(method: str) -> list[float]:
            found = []
            for wire in WIRES:
                async with entropyd.aio.Client(server.target, wire=wire) as client:
                    found.append(await rate(await _call(client, model.id, method, x), options))
            return found

        rows = [
            f"A link of 1 Gbit/s between two network namespaces, concurrency {options.concurrency}.",
            "",
            "| call, 48x32x192 | symbols: units/s | float: units/s | ratio (must) |",
            "|---|---|---|---|",
        ]
        for method in METHODS:
            found = [asyncio.run(both(method)) for _ in range(options.rounds + 1)][1:]
            symbols, floats = (median(one[place] for one in found) for place in (0, 1))
            ratio = median(a / b for a, b in found)
            rows.append(f"| {method} | {symbols:.0f} | {floats:.0f} | {ratio:.2f} ({LINK_MUST}) |")
    return "\n".join(rows)


@contextlib.contextmanager
def _namespace() -> Iterator[tuple[str, ...]]:
    """A network namespace at the end of a slow link; what runs a program in it."""
    path = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, env=path, capture_output=True)

    slow = ("tbf", "rate", "1gbit", "burst", "256kb", "latency", "50ms")
    inside = ("ip", "netns", "exec", _NAMESPACE)
    run("ip", "netns", "add", _NAMESPACE)
    try:
        run("ip", "link", "add", _DEVICE, "type", "veth", "peer", "name", _PEER, "netns", _NAMESPACE)
        run("ip", "address", "add", f"{_HERE}/30", "dev", _DEVICE)
        run("ip", "link", "set", _DEVICE, "up")
        run(*inside, "ip", "address", "add", f"{_THERE}/30", "dev", _PEER)
        run(*inside, "ip", "link", "set", _PEER, "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        run("tc", "qdisc", "add", "dev", _DEVICE, "root", *slow)
        run(*inside, "tc", "qdisc", "add", "dev", _PEER, "root", *slow)
        yield inside
    finally:
        run("ip", "netns", "delete", _NAMESPACE)


def memory(model: entropyd.Model, server: LocalServer) -> str:
    """What 64 MB take at the peak: in the client, which sends chunks, and in a server as one message."""
    shape = (_LARGE_UNITS, 48, 32, 192)
    size = prod(shape)
    rows = [
        f"{_LARGE_UNITS} units of 48x32x192: {4 * size / 1e6:.0f} MB of float32, {size / 1e6:.0f} MB of "
        "symbols, peaks of resident memory above that before the call, in MB. The client's includes what it "
        "returns; it sends chunks. The server is sent one message.",
        "",
        "| call | wire | strings | client | server |",
        "|---|---|---|---|---|",
    ]
    for wire in WIRES:
        for method in METHODS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                client, strings = pool.apply(_of_client, (server.target, model.id, wire, method, shape))
                at = server.target, server.process.pid
                of_server = pool.apply(_of_server, (at, model.id, wire, method, shape))
            rows.append(f"| {method} | {wire} | {strings:.0f} | {client:.0f} | {of_server:.0f} |")
    return "\n".join(rows)


def _of_client(
    target: str, model_id: str, wire: Wire, method: str, shape: tuple[int, ...]
) -> tuple[float, float]:
    with entropyd.Client(target, wire=wire) as client:
        model = client.model(model_id)
        x = bottleneck(model, shape)
        compressed = model.compress(x[:1])
        model.decompress(compressed)
        if method == "Compress":
            results: list[Any] = []
            peak = _peak(os.getpid(), lambda: results.append(model.compress(x)))
            return peak, len(results[0].payload) / 1e6
        compressed = model.compress(x)
        return _peak(os.getpid(), lambda: model.decompress(compressed)), len(compressed.payload) / 1e6


def _of_server(at: tuple[str, int], model_id: str, wire: Wire, method: str, shape: tuple[int, ...]) -> float:
    target, pid = at
    with entropyd.Client(target, wire=wire) as client, grpc.insecure_channel(target, UNLIMITED) as channel:
        model = client.model(model_id)
        x = bottleneck(model, shape)
        sent: Any = Symbols(model.config).of_values(x, None, 0) if wire == "symbols" else x
        given: dict[str, Any] = {"model_id": model_id, "bottleneck": tensor_to_message(sent)}
        stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
        compress = coding_pb2.CompressRequest(**given)
        if method == "Compress":
            return _peak(pid, lambda: stub.Compress(compress))
        compressed = stub.Compress(compress).compressed
        request = coding_pb2.DecompressRequest(compressed=compressed, symbols=wire == "symbols")
        return _peak(pid, lambda: stub.Decompress(request))


def _peak(pid: int, call: Callable[[], Any]) -> float:
    """Megabytes by which a process's resident memory grows in a call, at its peak."""
    before = psutil.Process(pid).memory_info().rss
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted anew
    call()
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return peak / 1e3 * 1.024 - before / 1e6


if __name__ == "__main__":
    main()
