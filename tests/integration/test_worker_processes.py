"""Clients and models in the processes that Dask, Ray and multiprocessing start: they arrive and connect."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
import entropyd.aio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd_server.local import LocalServer

X = np.random.default_rng(0).normal(0, 3, (4, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """One process that shares nothing with this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def payload_of(model: entropyd.Model, x: Any) -> bytes:
    return model.compress(x).payload


def aio_payload_of(model: entropyd.aio.Model, x: Any) -> bytes:
    async def main() -> bytes:
        return (await model.compress(x)).payload

    return asyncio.run(main())


def restored_by(model: entropyd.Model, compressed: entropyd.CompressedTensor) -> Any:
    return model.decompress(compressed)


def damaged_by(model: entropyd.Model) -> None:
    strings = model.compress(X).strings.copy()
    strings[2] += b"more"
    model.decompress(strings, (5,))


def version_of(client: entropyd.Client) -> str:
    return client.server_info().version


def id_made_by(client: entropyd.Client, config: entropyd.ModelConfig) -> str:
    return client.create_model(config).id


def test_another_process_codes_with_a_model_that_was_sent_to_it(
    pool: ProcessPoolExecutor, model: entropyd.Model
) -> None:
    compressed = model.compress(X)
    assert pool.submit(model.compress, X).result(60).payload == compressed.payload
    restored = pool.submit(restored_by, model, compressed).result(60)
    np.testing.assert_array_equal(restored, model.decompress(compressed))


def test_another_process_calls_with_a_client_and_a_config_that_were_sent_to_it(
    pool: ProcessPoolExecutor, client: entropyd.Client, model: entropyd.Model
) -> None:
    assert pool.submit(version_of, client).result(60) == client.server_info().version
    assert pool.submit(id_made_by, client, model.config).result(60) == model.id


def test_an_asynchronous_model_connects_in_the_event_loop_that_uses_it(
    pool: ProcessPoolExecutor, server: LocalServer, model: entropyd.Model
) -> None:
    here = entropyd.aio.Model(entropyd.aio.Client(server.target)._session, model.info)
    there = pool.submit(aio_payload_of, here, X).result(60)
    assert there == aio_payload_of(here, X) == model.compress(X).payload


def test_errors_come_back_whole(pool: ProcessPoolExecutor, model: entropyd.Model) -> None:
    with pytest.raises(entropyd.CorruptStringError) as here:
        damaged_by(model)
    with pytest.raises(entropyd.CorruptStringError) as there:
        pool.submit(damaged_by, model).result(60)
    assert there.value.units == here.value.units == (2,)
    np.testing.assert_array_equal(there.value.partial, here.value.partial)


def test_a_copy_that_many_threads_use_first_opens_one_channel(
    model: entropyd.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: entropyd.Model = pickle.loads(pickle.dumps(model))  # noqa: S301
    opened: list[Any] = []
    open_channel = type(copied._session)._open

    @functools.wraps(open_channel)
    def counted(session: Any, **options: Any) -> Any:
        opened.append(session)
        return open_channel(session, **options)

    monkeypatch.setattr(type(copied._session), "_open", counted)
    together = threading.Barrier(8)

    def use(_: int) -> bytes:
        together.wait()
        return payload_of(copied, X)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(use, range(8))) == {model.compress(X).payload}
    assert opened == [copied._session]
    copied._session.close()
