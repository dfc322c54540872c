"""The asynchronous client is the blocking one with awaitables."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd import priors

if TYPE_CHECKING:
    from entropyd_server.local import LocalServer

# Attributes that would have to ask the server; `await model.tables()` gives both.
ASKED_FOR = {"cdf", "cdf_offset"}


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [(entropyd.Client, entropyd.aio.Client), (entropyd.Model, entropyd.aio.Model)],
)
def test_the_twins_have_the_same_methods_with_the_same_arguments(blocking: type, asynchronous: type) -> None:
    names = {name for name in dir(blocking) if not name.startswith("_")} - ASKED_FOR
    assert names <= {name for name in dir(asynchronous) if not name.startswith("_")}
    for name in sorted(names | {"__init__"}):
        ours, theirs = getattr(blocking, name), getattr(asynchronous, name)
        if inspect.isfunction(ours):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), (
                name
            )


def test_the_first_digits_of_an_id_stand_for_it(server: LocalServer, model: entropyd.Model) -> None:
    async def main() -> None:
        async with entropyd.aio.Client(server.target) as client:
            assert (await client.model(model.id[:12])).id == model.id
            with pytest.raises(entropyd.ModelNotFoundError, match="begins with 0000000"):
                await client.model("0000000")
            with pytest.raises(entropyd.ModelNotFoundError, match="begins with 0000000"):
                await client.delete_model("0000000")
            with pytest.raises(entropyd.InvalidRequestError, match="at least its first 6 digits"):
                await client.model(model.id[:5])

    asyncio.run(main())


def test_large_arrays_are_cut_and_put_together_again(server: LocalServer, model: entropyd.Model) -> None:
    x = np.random.default_rng(0).normal(0, 3, (3, 40, 2000, 3)).astype(np.float32)
    whole = model.compress(x[1:2, 5])

    async def main() -> None:
        async with entropyd.aio.Client(server.target) as client:
            same = await client.model(model.id)
            told: list[tuple[int, int]] = []
            compressed = await same.compress(x, progress=lambda *done: told.append(done))
            assert compressed.batch_shape == (3, 40)
            assert len(told) > 1
            assert told[-1] == (120, 120)
            assert compressed.strings[1, 5] == whole.strings[0]
            restored = await same.decompress(compressed)
            assert np.abs(restored - x).max() <= 0.5 + 1e-6
            np.testing.assert_array_equal(await same.decompress(compressed.strings, (2000,)), restored)
            damaged = compressed.strings.copy()
            damaged[2, 7] += b"more"
            with pytest.raises(entropyd.CorruptStringError) as caught:
                await same.decompress(damaged, (2000,))
            assert caught.value.units == (87,)
            x[2, 9, 4, 1] = np.nan
            with pytest.raises(entropyd.InvalidTensorError, match=r"coding unit 89, element \(4, 1\)"):
                await same.compress(x)
            assert model.id in [found.id async for found in client.models()]
            cdf, cdf_offset = await same.tables()
            np.testing.assert_array_equal(cdf, model.cdf)
            np.testing.assert_array_equal(cdf_offset, model.cdf_offset)

    asyncio.run(main())


def test_both_clients_give_the_same_bytes(server: LocalServer, model: entropyd.Model) -> None:
    x = np.random.default_rng(1).normal(0, 3, (700, 300, 3)).astype(np.float32)

    async def main() -> bytes:
        async with entropyd.aio.Client(server.target) as client:
            return (await (await client.model(model.id)).compress(x)).payload

    assert asyncio.run(main()) == model.compress(x).payload


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_both_clients_skip_the_same_units(
    server: LocalServer, model: entropyd.Model, batch: tuple[int, ...]
) -> None:
    strings = np.array(model.compress(np.zeros((*batch, 5, 3), np.float32)).strings)
    strings.reshape(-1)[-1] += b"\x01\x02\x03\x04\x05\x06\x07\x08"
    restored, damaged = model.decompress(strings, (5,), on_error="skip")
    assert damaged.shape == batch
    assert np.flatnonzero(damaged).tolist() == [damaged.size - 1]
    np.testing.assert_array_equal(np.isnan(restored).all((-2, -1)), damaged)

    async def main() -> None:
        async with entropyd.aio.Client(server.target) as client:
            same = await client.model(model.id)
            twins = await same.decompress(strings, (5,), on_error="skip")
            np.testing.assert_array_equal(twins[0], restored)
            np.testing.assert_array_equal(twins[1], damaged)
            with pytest.raises(entropyd.CorruptStringError):
                await same.decompress(strings, (5,))

    asyncio.run(main())


def test_a_fit_tells_its_progress_and_gives_a_model(server: LocalServer) -> None:
    samples = np.random.default_rng(2).normal(5, 3, (400, 2)).astype(np.float32)
    start = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal([0.0, 0.0], [1.0, 1.0]), coding_rank=1)

    async def main() -> None:
        async with entropyd.aio.Client(server.target) as client:
            told: list[entropyd.FitProgress] = []
            model = await client.fit_model(start, samples, max_steps=100, progress=told.append)
            assert isinstance(model, entropyd.aio.Model)
            assert told[-1].bits_per_element < told[0].bits_per_element
            with pytest.raises(entropyd.InvalidRequestError, match="max_steps"):
                await client.fit_model(start, samples, max_steps=10**6)

    asyncio.run(main())
