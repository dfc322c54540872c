"""Fuzzes a whole server over gRPC: `python -m tests.fuzz.server --seconds N`.

Every response is one that a caller may get, a neighbour's responses are right to the bit, the process goes
on, and its memory stays within a bound.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import psutil

import entropyd
import entropyd.aio
from entropyd import priors
from entropyd.contract.kinds import config_to_message
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc, model_pb2, model_pb2_grpc, types_pb2
from entropyd_server.local import LocalServer
from tests.fuzz.calls import CALL_SECONDS, Method, draw, judge, methods, seeds, unit_seeds
from tests.support.indexed_models import INDEXED_KINDS, indexed_config, spread_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from entropyd.contract.config import ModelConfig

# What a server may have more after any number of hostile calls: caches of models and plans fill up.
MOST_GROWTH_BYTES = 200 * 1024 * 1024
_CALLERS = 16
# Work for a device rather than bytes to parse; calls of these are rarer.
_SLOW = ("CreateModel", "FitModel", "ImportModel", "Perturb", "SetWeights")


async def fuzz(
    server: LocalServer,
    model: entropyd.ModelInfo,
    *,
    seed: int,
    goes_on: Callable[[int], bool],
    exported: bytes,
) -> Counter[str]:
    """Makes hostile calls while a neighbour works.

    Args:
      server: With the coding role at least.
      model: One of its models, of float32.
      seed: Of what is drawn; the same seed draws the same calls.
      goes_on: Told how many calls were made, says whether to make more.
      exported: The model as an object, for ImportModel.

    Returns:
      How often calls ended in which way.

    Raises:
      AssertionError: If what must hold does not.
    """
    chance = random.Random(seed)  # noqa: S311 - what is drawn is no secret
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    weighted: list[Method] = [
        method for method in methods() for _ in range(1 if method.path.endswith(_SLOW) else 6)
    ]
    ends: Counter[str] = Counter()
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    made = 0
    async with entropyd.aio.Client(server.target) as client:
        same = entropyd.aio.Model(client._session, model)
        good = seeds(model, await same.compress(_array(model)), exported)
        async with grpc.aio.insecure_channel(server.target, options) as channel:
            others = [await _other(channel, config) for config in _configs()]
            # As many calls of the one model, of all methods, as of the others together.
            known = [(model.id, good)] * len(others) + [(of.model_id, of.good) for of in others]

            async def caller() -> None:
                nonlocal made
                while goes_on(made):
                    made += 1
                    model_id, of_model = chance.choice(known)
                    method = chance.choice([method for method in weighted if method.path in of_model])
                    call = draw(chance, method, of_model[method.path], model_id)
                    ends[await judge(channel, call)] += 1

            done = asyncio.Event()
            working = asyncio.gather(
                _neighbour(same, done), *(_other_neighbour(channel, other, done) for other in others)
            )
            try:
                await asyncio.gather(*(caller() for _ in range(_CALLERS)))
            finally:
                done.set()
            ends["neighbour"] = sum(await working)
    assert process.is_running()
    assert server.process.poll() is None
    growth = process.memory_info().rss - before
    assert growth < MOST_GROWTH_BYTES, growth
    return ends


def _array(model: entropyd.ModelInfo) -> npt.NDArray[np.float32]:
    shape = (4, 30, *model.config.prior_shape)
    return np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)


async def _neighbour(model: entropyd.aio.Model, done: asyncio.Event) -> int:
    """Somebody whose answers must be right all the time; counts them."""
    x = _array(model.info)
    expected = await model.compress(x, timeout_s=CALL_SECONDS)
    visits = 0
    while not (done.is_set() and visits):
        compressed = await model.compress(x, timeout_s=CALL_SECONDS)
        assert compressed.payload == expected.payload
        restored = await model.decompress(compressed, timeout_s=CALL_SECONDS)
        assert np.abs(restored - x).max() <= 0.5 + 1e-5
        visits += 1
    return visits


def _configs() -> list[ModelConfig]:
    """One for each kind whose units have no fixed axes."""
    tables = spread_tables(8)
    tabulated = entropyd.TabulatedConfig.of_tables((tables.cdf, tables.cdf_offset), 2, row_by="index")
    return [*map(indexed_config, INDEXED_KINDS), entropyd.PowerLawConfig(coding_rank=2), tabulated]


class _Other(NamedTuple):
    """Another model: messages for it by path, a good call, and its answer."""

    model_id: str
    good: dict[str, list[bytes]]
    request: coding_pb2.CompressRequest
    compressed: types_pb2.CompressedTensor


async def _other(channel: grpc.aio.Channel, config: ModelConfig) -> _Other:
    """Creates a model and compresses with it."""
    models: Any = model_pb2_grpc.ModelServiceStub(channel)
    await models.CreateModel(model_pb2.CreateModelRequest(config=config_to_message(config)))
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 8, (3, 4, 5)).astype(np.uint8)
    request = coding_pb2.CompressRequest(
        model_id=config.model_id,
        bottleneck=tensor_to_message(rng.normal(0, 1 + plane).astype(np.float32)),
        indexes=tensor_to_message(plane) if config.index_ranges else None,
        first_unit=3,
    )
    coding: Any = coding_pb2_grpc.CodingServiceStub(channel)
    compressed = (await coding.Compress(request, timeout=CALL_SECONDS)).compressed
    return _Other(config.model_id, unit_seeds(config, request, compressed), request, compressed)


async def _other_neighbour(channel: grpc.aio.Channel, known: _Other, done: asyncio.Event) -> int:
    """As `_neighbour`."""
    coding: Any = coding_pb2_grpc.CodingServiceStub(channel)
    x = np.frombuffer(known.request.bottleneck.data, np.float32)
    whole = coding_pb2.DecompressRequest(compressed=known.compressed)
    if known.request.HasField("indexes"):
        whole.indexes.CopyFrom(known.request.indexes)
    visits = 0
    while not (done.is_set() and visits):
        response = await coding.Compress(known.request, timeout=CALL_SECONDS)
        assert response.compressed == known.compressed
        decompressed = await coding.Decompress(whole, timeout=CALL_SECONDS)
        assert np.abs(np.frombuffer(decompressed.tensor.data, np.float32) - x).max() <= 0.5 + 1e-5
        visits += 1
    return visits


def main() -> None:
    """Fuzzes a server of its own for a time, and prints how calls ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    with LocalServer("--max-build-seconds", "20") as server, entropyd.Client(server.target) as client:
        prior = priors.NoisyNormal(loc=[0.0, 1.0, -2.0], scale=[0.5, 2.0, 6.0])
        model = client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2))
        until = time.monotonic() + arguments.seconds
        ends = asyncio.run(
            fuzz(
                server,
                model.info,
                seed=arguments.seed,
                goes_on=lambda _: time.monotonic() < until,
                exported=model.export(),
            )
        )
        assert "Traceback" not in server.log_path.read_text(), server.log_path.read_text()
    for end, count in sorted(ends.items()):
        sys.stdout.write(f"{count:8} {end}\n")


if __name__ == "__main__":
    main()
