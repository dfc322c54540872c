"""Three replicas, each with room for a third of the models: calls by model against calls in turn, in one run.

    python -m benchmarks.affinity [--models 300] [--rate 120] [--seconds 10] [--latents 4x4x192]

Envoy runs deploy/envoy/envoy.yaml before three replicas: as published, with a Maglev hash of the model, with
a ring hash, and with round_robin in its place. Each call takes a model at random: all alike, or by Zipf's
law, where the second is half as popular as the first, the third a third as popular, and so on. Calls that are
not counted warm the caches up, five for each model. Then calls leave at random times at `rate`, without
retries of the client, first at rest, then while one replica after the other is restarted. Of a replica that
restarts, look-ups after the signal are not counted. Latencies count from the time at which a call was due.
All of it runs on one machine. The section of docs/replicas.md between the `affinity` marks is rewritten.
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
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from rich.progress import track
from tests.support.envoy import balanced, published, start_envoy
from tests.support.replicas import Replica, start_replicas

import entropyd
from benchmarks.offered_load import Call, Result, offer
from benchmarks.page import REPLICAS, rewrite
from entropyd import priors
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POLICIES = {"MAGLEV": "Maglev", "RING_HASH": "ring hash", "ROUND_ROBIN": "round_robin"}
POPULARITIES = ("uniform", "Zipf")
_REPLICAS = 3
_CHANNELS, _LEVELS = 192, 15
# A row of 28 intervals, at TFC's precision of 12 bits.
_ROW = [-12, *np.linspace(0, 4096, 29, dtype=int).tolist()]
_WARM_UP, _WARM_UP_CALLERS = 5, 8
# Between restarts, for callers to come back to the new process.
_PAUSE_S = 2.0


@dataclass(frozen=True)
class Measurement:
    """What became of the calls of a while.

    Attributes:
      calls: How many there were.
      failed: Calls without a response.
      hit_rate: Look-ups of a model that found it in memory, of all.
      p50_ms: Median latency.
      p99_ms: The latency that one in a hundred calls exceeded.
      worst_ms: The longest.
    """

    calls: int
    failed: int
    hit_rate: float
    p50_ms: float
    p99_ms: float
    worst_ms: float


def main() -> None:
    """Measures, prints the table and rewrites the page."""
    arguments = argparse.ArgumentParser(description="calls by model against calls in turn")
    arguments.add_argument("--models", type=int, default=300)
    arguments.add_argument("--rate", type=float, default=120.0, help="calls per second")
    arguments.add_argument("--seconds", type=float, default=10.0, help="length of a measurement at rest")
    arguments.add_argument("--latents", default="4x4x192", help="shape of the one coding unit of a call")
    arguments.add_argument("--no-page", action="store_true", help="leave docs/replicas.md as it is")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="entropyd-affinity-") as folder:
        store = Path(folder, "store").as_uri()
        requests = [request(model, options.latents) for model in stored(store, options.models)]
        text = table(options, requests, store, Path(folder))
    print(text)
    if not options.no_page:
        rewrite(REPLICAS, "affinity", text)


def stored(store: str, count: int) -> Iterator[str]:
    """Stores models that differ in their priors; gives their ids."""
    rows = _CHANNELS * _LEVELS
    tables = CodingTables.parse(np.array(_ROW * rows), np.full(rows, -14))
    models = ModelStore(store)
    for number in track(range(count), "models", disable=not sys.stdout.isatty()):
        config = entropyd.UniversalBatchedConfig(
            prior=priors.NoisyNormal(float(number), [4.0] * _CHANNELS),
            coding_rank=3,
            num_noise_levels=_LEVELS,
            tables=(tables.cdf, tables.cdf_offset),
        )
        asyncio.run(models.create(config, tables, {}))
        yield config.model_id


def request(model_id: str, latents: str) -> Call:
    """A compression of one coding unit, as clients send it."""
    shape = [int(axis) for axis in latents.split("x")]
    x = np.random.default_rng(0).normal(0, 4, (1, *shape)).astype(np.float32)
    message = coding_pb2.CompressRequest(model_id=model_id, bottleneck=tensor_to_message(x))
    return Call(message, (("entropyd-model", model_id),))


def table(options: argparse.Namespace, requests: Sequence[Call], store: str, folder: Path) -> str:
    """Hit rate and latency of each policy, at rest and through restarts."""
    room_bytes = cache_bytes(requests, store) // _REPLICAS
    rows = [
        f"{os.cpu_count()} cores for all; {options.models} models, {_REPLICAS} replicas, and room for a "
        f"third of the models in each ({room_bytes / 1e6:.0f} MB); {options.rate:g} calls/s of Compress, "
        f"{options.latents}.",
        "",
        "| popularity | replicas | calls go by | calls | failed | hit rate | p50 ms | p99 ms | worst ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for popularity in POPULARITIES:
        for policy, name in POLICIES.items():
            flags = ("--max-cache-bytes", str(room_bytes), "--drain-seconds", "5")
            own = folder / f"{policy}-{popularity}"
            own.mkdir()
            with start_replicas(_REPLICAS, store, *flags) as replicas:
                addresses = [replica.address for replica in replicas]
                conf = balanced(published(), policy)
                with start_envoy(own, addresses, addresses[0], conf) as envoy:
                    calls = drawn(requests, popularity)
                    asyncio.run(warm_up(envoy.address, calls, _WARM_UP * len(requests)))
                    found = {"at rest": asyncio.run(at_rest(envoy.address, calls, replicas, options))}
                    if popularity == POPULARITIES[-1]:
                        restarts = restarting(envoy.address, calls, replicas, options)
                        found["restarted one by one"] = asyncio.run(restarts)
            for state, measured in found.items():
                rows.append(
                    f"| {popularity} | {state} | {name} | {measured.calls} | {measured.failed} "
                    f"| {measured.hit_rate:.3f} | {measured.p50_ms:.1f} | {measured.p99_ms:.1f} "
                    f"| {measured.worst_ms:.0f} |"
                )
                print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def cache_bytes(requests: Sequence[Call], store: str) -> int:
    """What all models take in the cache of one server."""
    with start_replicas(1, store, "--max-cache-bytes", str(2**40)) as (replica,):
        asyncio.run(warm_up(replica.address, iter(requests), len(requests)))
        return int(replica.sample("entropyd_model_cache_bytes"))


def drawn(requests: Sequence[Call], popularity: str) -> Iterator[Call]:
    """Calls of models at random."""
    generator = np.random.default_rng(0)
    weights = np.ones(len(requests)) if popularity == "uniform" else 1 / np.arange(1, len(requests) + 1)
    while True:
        for number in generator.choice(len(requests), 1000, p=weights / weights.sum()):
            yield requests[number]


async def warm_up(address: str, calls: Iterator[Call], count: int) -> None:
    """Makes that many calls, as fast as they are answered."""
    async with grpc.aio.insecure_channel(address) as channel:
        compress: Any = coding_pb2_grpc.CodingServiceStub(channel).Compress
        left = iter(range(count))

        async def caller() -> None:
            for _ in left:
                call = next(calls)
                await compress(call.request, metadata=call.metadata)

        await asyncio.gather(*(caller() for _ in range(_WARM_UP_CALLERS)))


async def at_rest(
    address: str, calls: Iterator[Call], replicas: Sequence[Replica], options: argparse.Namespace
) -> Measurement:
    """Measures while nothing happens."""
    before = looked_up(replicas)
    results = await offer(address, "Compress", calls, options.rate, options.seconds)
    return measurement(results, looked_up(replicas) - before)


async def restarting(
    address: str, calls: Iterator[Call], replicas: Sequence[Replica], options: argparse.Namespace
) -> Measurement:
    """Measures while one replica after the other is restarted."""
    found = -looked_up(replicas)

    def restart_all() -> None:
        for replica in replicas:
            time.sleep(_PAUSE_S)
            found[:] += looked_up([replica])
            replica.restart()
        time.sleep(_PAUSE_S)

    restarts = asyncio.create_task(asyncio.to_thread(restart_all))
    results: list[Result] = []
    while not restarts.done():
        results += await offer(address, "Compress", calls, options.rate, 2.0)
    await restarts
    return measurement(results, found + looked_up(replicas))


def looked_up(replicas: Sequence[Replica]) -> Any:
    """Look-ups of models so far: hits and misses, float64 [2]."""
    return sum(
        np.array([replica.sample("entropyd_model_cache_total", result=result) for result in ("hit", "miss")])
        for replica in replicas
    )


def measurement(results: Sequence[Result], hits_and_misses: Any) -> Measurement:
    """Sums calls up."""
    latencies_ms = [
        1e3 * (result.ended - result.due) for result in results if result.code is grpc.StatusCode.OK
    ]
    cuts = quantiles(latencies_ms, n=100)
    hits, misses = hits_and_misses
    return Measurement(
        calls=len(results),
        failed=len(results) - len(latencies_ms),
        hit_rate=hits / (hits + misses),
        p50_ms=cuts[49],
        p99_ms=cuts[98],
        worst_ms=max(latencies_ms),
    )


if __name__ == "__main__":
    main()
