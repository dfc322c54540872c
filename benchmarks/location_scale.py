"""A LocationScaleIndexedEntropyModel with loc: entropyd's client against a naive server around TFC.

One coding unit of LATENTS per call. TFC, in a tf.function behind grpcio, is sent prepared bytes: bottleneck
and loc as float32, indexes as int32. entropyd's client is given the same arrays for every call: it subtracts
and adds loc, and converts indexes.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

import entropyd
import entropyd.aio
from entropyd import priors

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

LATENTS = (1, 48, 32, 192)
_COUNT = int(np.prod(LATENTS))
_NUM_SCALES, _LOW, _HIGH = 64, 0.11, 256.0
_SERVICE = "entropyd.v1.CodingService"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def config() -> entropyd.LocationScaleIndexedConfig:
    """64 normal scales from 0.11 to 256."""
    scale = priors.log_spaced(_LOW, _HIGH)
    prior = priors.indexed("NoisyNormal", index_ranges=(_NUM_SCALES,), loc=0.0, scale=scale)
    return entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=3)


def table(options: argparse.Namespace, model: entropyd.Model, target: str, peer: str) -> str:
    """Throughput of both, with `options.concurrency` calls in flight, if they give the same results."""
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, _NUM_SCALES, LATENTS, np.int32)
    loc = rng.normal(0, 10, LATENTS).astype(np.float32)
    scales = np.asarray(model.prior.on_grid().parameters["scale"])[indexes]
    y = (loc + scales * rng.normal(size=LATENTS)).astype(np.float32)
    compressed = model.compress(y, indexes, loc)
    string, restored = compressed.strings.item(), model.decompress(compressed, indexes, loc)
    with grpc.insecure_channel(peer, _UNLIMITED) as channel:
        calls = {
            "Compress": (y.tobytes() + loc.tobytes() + indexes.tobytes(), string),
            "Decompress": (loc.tobytes() + indexes.tobytes() + string, restored.tobytes()),
        }
        for method, (message, expected) in calls.items():
            if channel.unary_unary(f"/{_SERVICE}/{method}")(message) != expected:
                raise AssertionError(f"TFC's {method} gives another result than entropyd's")

    async def rates(method: str) -> tuple[float, float]:
        message, _ = calls[method]
        async with (
            entropyd.aio.Client(target) as client,
            grpc.aio.insecure_channel(peer, _UNLIMITED) as channel,
        ):
            ours = await client.model(model.id)
            theirs: Any = channel.unary_unary(f"/{_SERVICE}/{method}")
            call: Callable[[], Awaitable[Any]] = (
                (lambda: ours.compress(y, indexes, loc))
                if method == "Compress"
                else (lambda: ours.decompress(compressed, indexes, loc))
            )
            return await rate(lambda: theirs(message), options), await rate(call, options)

    rows = [
        f"LocationScaleIndexed with loc, 48x32x192, 64 scales, concurrency {options.concurrency}: entropyd's "
        "asyncio client, its work on the arrays included, and prepared bytes to TFC in a tf.function behind "
        "grpcio. Must: 2.5.",
        "",
        "| call | TFC/s | entropyd/s | ratio |",
        "|---|---|---|---|",
    ]
    for method in calls:
        pairs = [asyncio.run(rates(method)) for _ in range(options.rounds + 1)][1:]
        theirs, ours = (median(pair[place] for pair in pairs) for place in (0, 1))
        rows.append(f"| {method} | {theirs:.0f} | {ours:.0f} | {median(b / a for a, b in pairs):.2f} |")
    return "\n".join(rows)


async def rate(call: Callable[[], Awaitable[Any]], options: argparse.Namespace) -> float:
    """Calls per second with `options.concurrency` of them in flight, for `options.seconds`."""
    started = time.perf_counter()
    until = started + options.seconds

    async def caller() -> int:
        made = 0
        while time.perf_counter() < until:
            await call()
            made += 1
        return made

    made = sum(await asyncio.gather(*(caller() for _ in range(options.concurrency))))
    return made / (time.perf_counter() - started)


def serve(address: str) -> None:
    """Serves TFC's class until the process is ended."""
    import tensorflow as tf  # noqa: PLC0415 - the side that measures needs none
    import tensorflow_compression as tfc  # noqa: PLC0415

    offset = np.log(_LOW)
    slope = (np.log(_HIGH) - offset) / (_NUM_SCALES - 1)
    model = tfc.LocationScaleIndexedEntropyModel(
        tfc.NoisyNormal,
        _NUM_SCALES,
        lambda index: tf.math.exp(offset + slope * index),
        coding_rank=3,
        compression=True,
    )
    floats, integers = tf.TensorSpec(LATENTS, tf.float32), tf.TensorSpec(LATENTS, tf.int32)
    compress = tf.function(model.compress, input_signature=[floats, integers, floats])
    decompress = tf.function(
        model.decompress, input_signature=[tf.TensorSpec([1], tf.string), integers, floats]
    )

    def array(message: bytes, dtype: Any, place: int) -> Any:
        return np.frombuffer(message, dtype, _COUNT, 4 * _COUNT * place).reshape(LATENTS)

    def answer_compress(message: bytes, context: Any) -> bytes:
        del context
        y, loc, indexes = (
            array(message, np.float32, 0),
            array(message, np.float32, 1),
            array(message, np.int32, 2),
        )
        string: bytes = compress(y, indexes, loc).numpy()[0]
        return string

    def answer_decompress(message: bytes, context: Any) -> bytes:
        del context
        loc, indexes = array(message, np.float32, 0), array(message, np.int32, 1)
        restored: bytes = decompress([message[8 * _COUNT :]], indexes, loc).numpy().tobytes()
        return restored

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Compress": grpc.unary_unary_rpc_method_handler(answer_compress),
        "Decompress": grpc.unary_unary_rpc_method_handler(answer_decompress),
    }
    server = grpc.server(ThreadPoolExecutor(8), options=_UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()
