"""Bit costs over gRPC, against one eager TFC call per request, in one run on one machine.

    python -m benchmarks.perturb [--rounds 3] [--seconds 2] [--concurrency 16]

Both servers answer the same Perturb requests for the same model. The peer is what one writes first: a gRPC
server that reads the tensor, calls TFC's entropy model eagerly, and answers. A round measures each once; the
table shows medians over the rounds of the calls per second and of their ratio within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

import entropyd
from benchmarks.service import benchmark_config
from entropyd import _messages
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import model_pb2, model_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (4, 4, 192)
MODES = {
    "evaluation": {"training": False, "gradient": False},
    "training": {"training": True, "gradient": False},
    "training, gradient": {"training": True, "gradient": True},
}


def main() -> None:
    """Measures and prints the table."""
    arguments = argparse.ArgumentParser(description="entropyd against eager TensorFlow Compression")
    arguments.add_argument("--rounds", type=int, default=3, help="measurements of each server")
    arguments.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    arguments.add_argument("--concurrency", type=int, default=16, help="calls in flight")
    arguments.add_argument("--serve-eager", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.serve_eager:
        asyncio.run(serve_eager(options.serve_eager))
        return
    shape = "x".join(map(str, SHAPE))
    table = Table(title=f"Perturb calls/s, {shape}, concurrency {options.concurrency}", box=None)
    for column in ("mode", "eager TFC", "entropyd", "ratio"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    with LocalServer() as server, eager_server() as peer, entropyd.Client(server.target) as client:
        model = client.create_model(benchmark_config())
        x = np.random.default_rng(0).normal(0, 3, SHAPE).astype(np.float32)
        for name, mode in MODES.items():
            request = _messages.perturb(model.info, x, **mode).request.SerializeToString()
            rounds = [
                [
                    asyncio.run(calls_per_second(target, request, options.seconds, options.concurrency))
                    for target in (peer, server.target)
                ]
                for _ in range(1 + options.rounds)  # the first one, which compiles, does not count
            ][1:]
            ratio = median(ours / eager for eager, ours in rounds)
            rates = [f"{median(column):.0f}" for column in zip(*rounds, strict=True)]
            table.add_row(name, *rates, f"{ratio:.1f}")
    Console().print(table)


async def calls_per_second(target: str, request: bytes, seconds: float, concurrency: int) -> float:
    """Keeps `concurrency` calls in flight for a while and counts those that were answered."""
    async with grpc.aio.insecure_channel(target) as channel:
        call: Any = channel.unary_unary("/entropyd.v1.ModelService/Perturb")
        await call(request)
        until = time.perf_counter() + seconds

        async def caller() -> int:
            answered = 0
            while time.perf_counter() < until:
                await call(request)
                answered += 1
            return answered

        started = time.perf_counter()
        answered = sum(await asyncio.gather(*(caller() for _ in range(concurrency))))
        return answered / (time.perf_counter() - started)


@contextlib.contextmanager
def eager_server() -> Iterator[str]:
    """The peer, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="entropyd-eager-") as folder:
        target = f"unix:{folder}/socket"
        command = [sys.executable, "-m", "benchmarks.perturb", "--serve-eager", target]
        # Importing TensorFlow 2.14 alone logs a dozen lines.
        server = subprocess.Popen(command, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        try:
            with grpc.insecure_channel(target) as channel:
                grpc.channel_ready_future(channel).result(timeout=60)
            yield target
        finally:
            server.terminate()
            server.wait()


async def serve_eager(target: str) -> None:
    """Answers Perturb by one eager call each, until the process is ended."""
    import tensorflow as tf  # noqa: PLC0415 - in the peer's process only
    import tensorflow_compression as tfc  # noqa: PLC0415

    prior = benchmark_config().prior
    model = tfc.UniversalBatchedEntropyModel(tfc.NoisyNormal(**prior.parameters), coding_rank=3)

    class Eager(model_pb2_grpc.ModelServiceServicer):
        async def Perturb(self, request: model_pb2.PerturbRequest, context: Any) -> Any:
            del context
            x = tf.constant(array_from_message(request.bottleneck, "bottleneck")[1])
            if not request.gradient:
                perturbed, bits = model(x, training=request.training)
                return model_pb2.PerturbResponse(
                    perturbed=tensor_to_message(perturbed.numpy()), bits=tensor_to_message(bits.numpy())
                )
            with tf.GradientTape() as tape:
                tape.watch(x)
                perturbed, bits = model(x, training=request.training)
                total = tf.reduce_sum(bits)
            return model_pb2.PerturbResponse(
                perturbed=tensor_to_message(perturbed.numpy()),
                bits=tensor_to_message(bits.numpy()),
                gradient=tensor_to_message(tape.gradient(total, x).numpy()),
            )

    server = grpc.aio.server()
    model_pb2_grpc.add_ModelServiceServicer_to_server(Eager(), server)
    server.add_insecure_port(target)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
