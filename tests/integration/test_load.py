"""Many callers at once: each gets its own right answer or its own right error, once, and nothing leaks."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
import entropyd.aio
from entropyd import _calls, priors
from entropyd._pieces import Compression
from entropyd.v1 import coding_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

DTYPES = ("float32", "float64", "float16")


@pytest.fixture(scope="module")
def configs() -> list[entropyd.UniversalBatchedConfig]:
    """Models that differ in prior_shape, coding_rank and dtype."""
    return [
        entropyd.UniversalBatchedConfig(
            prior=priors.NoisyLaplace(loc=0.0, scale=np.linspace(0.5, 4, channels)),
            coding_rank=2,
            bottleneck_dtype=dtype,
            num_noise_levels=3,
        )
        for channels, dtype in zip((1, 4, 7), DTYPES, strict=True)
    ]


async def caller(
    models: list[entropyd.aio.Model], chance: random.Random, alone: dict[Any, list[bytes]]
) -> str:
    """One caller's visit; says how it ended."""
    number = chance.randrange(len(models))
    model = models[number]
    units, length, seed = chance.randint(1, 12), chance.choice([1, 5, 40, 700]), chance.randrange(40)
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, (units, length, *model.prior_shape)).astype(model.bottleneck_dtype)
    kind = chance.choice(["whole", "whole", "whole", "poisoned", "corrupt", "cancelled", "late"])
    if kind == "poisoned":
        bad = chance.randrange(units)
        x[bad, 0, 0] = np.inf
        with pytest.raises(entropyd.InvalidTensorError, match=f"coding unit {bad},"):
            await model.compress(x)
        return kind
    if kind == "cancelled":
        calling = asyncio.ensure_future(model.compress(x))
        await asyncio.sleep(chance.random() / 200)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        return kind
    if kind == "late":
        try:
            await model.compress(x, timeout_s=chance.random() / 100)
        except entropyd.DeadlineExceededError:
            return kind
        return "in time"
    compressed = await model.compress(x)
    strings = compressed.strings.tolist()
    # Whoever was coded in the same batch, the bytes are those of the first time.
    assert alone.setdefault((number, units, length, seed), strings) == strings
    if kind == "corrupt":
        bad = chance.randrange(units)
        damaged = compressed.strings.copy()
        damaged[bad] += b"more"
        with pytest.raises(entropyd.CorruptStringError) as caught:
            await model.decompress(damaged, (length,))
        assert caught.value.units == (bad,)
        return kind
    restored = await model.decompress(compressed)
    bound = 0.5 + (0.01 if restored.dtype == np.float16 else 1e-5)
    assert np.abs(restored.astype(np.float64) - x.astype(np.float64)).max() <= bound
    return kind


def test_hundreds_of_callers_each_get_their_own_answer(
    server: LocalServer, configs: list[entropyd.UniversalBatchedConfig]
) -> None:
    alone: dict[Any, list[bytes]] = {}

    async def main(visits: int) -> dict[str, int]:
        chance = random.Random(visits)  # noqa: S311 - a test's choices
        async with entropyd.aio.Client(server.target) as client:
            models = [await client.create_model(config) for config in configs]
            places = asyncio.Semaphore(200)

            async def visit() -> str:
                async with places:
                    return await caller(models, chance, alone)

            ends = await asyncio.gather(*(visit() for _ in range(visits)))
        return {end: ends.count(end) for end in set(ends)}

    process = psutil.Process(server.process.pid)
    asyncio.run(main(400))
    before = process.memory_info().rss, process.num_threads(), process.num_fds()
    ends = asyncio.run(main(1500))
    assert sum(ends.values()) == 1500
    assert {"whole", "poisoned", "corrupt", "cancelled"} <= set(ends)
    after = process.memory_info().rss, process.num_threads(), process.num_fds()
    assert after[0] - before[0] < 100e6, (before, after)
    assert after[1] - before[1] <= 8, (before, after)
    assert after[2] - before[2] <= 16, (before, after)


def test_of_thousands_of_small_calls_at_once_none_is_lost(
    server: LocalServer, configs: list[entropyd.UniversalBatchedConfig]
) -> None:
    """Over several connections, each of which carries 1024 calls at a time at the most."""
    x = np.random.default_rng(0).normal(0, 3, (1, 3000, 1)).astype(np.float32)

    async def main() -> None:
        async with entropyd.aio.Client(server.target) as setup:
            model = await setup.create_model(configs[0])
            request = _calls.decompress_request(model.info, await model.compress(x), None)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with AsyncExitStack() as stack:
            stubs: list[Any] = []
            for _ in range(8):
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.target, options))
                stubs.append(coding_pb2_grpc.CodingServiceStub(channel))
                expected = (await stubs[-1].Decompress(request)).tensor.data
            answers = await asyncio.gather(*(stub.Decompress(request) for _ in range(800) for stub in stubs))
        assert {answer.tensor.data for answer in answers} == {expected}

    asyncio.run(main())


@pytest.fixture
def small_queue() -> Iterator[LocalServer]:
    """A server on which a little too much is soon too much."""
    flags = ["--codec-threads", "1", "--max-queue-symbols", "3000000", "--max-batch-symbols", "300000"]
    with LocalServer(*flags) as running:
        yield running


def test_overload_is_refused_at_once_while_what_was_accepted_is_answered(
    small_queue: LocalServer,
) -> None:
    shape = (1, 1200, 256)
    config = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyNormal(loc=0.0, scale=np.full(256, 3.0)), coding_rank=2, bottleneck_dtype="float32"
    )
    x = np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)

    async def main() -> None:
        async with entropyd.aio.Client(small_queue.target) as setup:
            model = (await setup.create_model(config)).info
            expected = (await setup.compress(model, x)).payload
        # Without the client's retries, so that refusals are seen.
        async with grpc.aio.insecure_channel(
            small_queue.target, [("grpc.enable_retries", 0), ("grpc.max_send_message_length", -1)]
        ) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            health: Any = health_pb2_grpc.HealthStub(channel)
            request = next(Compression(model, x).requests())[0]
            refusals: list[tuple[str, bool]] = []

            async def offer() -> bool:
                try:
                    reply = await stub.Compress(request)
                except grpc.aio.AioRpcError as error:
                    pushback_ms = dict(tuple(error.trailing_metadata() or ())).get("grpc-retry-pushback-ms")
                    refusals.append((error.code().name, pushback_ms is not None))
                    return False
                assert reply.compressed.payload == expected
                return True

            async def callers() -> list[bool]:
                return [await offer() for _ in range(10)]

            offering = [asyncio.ensure_future(callers()) for _ in range(40)]
            # Health and models answer meanwhile.
            for _ in range(5):
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            outcomes = [outcome for visits in await asyncio.gather(*offering) for outcome in visits]
        assert any(outcomes)
        assert set(refusals) == {("RESOURCE_EXHAUSTED", True)}

    asyncio.run(main())


def test_the_clients_retries_cover_an_overload(small_queue: LocalServer) -> None:
    config = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyNormal(loc=0.0, scale=np.full(256, 3.0)), coding_rank=2
    )
    x = np.random.default_rng(0).normal(0, 3, (1, 1200, 256)).astype(np.float32)

    async def main() -> None:
        async with entropyd.aio.Client(small_queue.target) as client:
            model = await client.create_model(config)
            expected = (await model.compress(x)).payload
            for answer in await asyncio.gather(*(model.compress(x) for _ in range(30))):
                assert answer.payload == expected

    asyncio.run(main())
