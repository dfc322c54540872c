"""A store on S3, over HTTP: the same laws as on a folder, and any number of servers on it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import from_url

import entropyd
from entropyd import priors
from entropyd_server.local import LocalServer
from entropyd_server.store.model_store import ModelStore
from tests.support.name_moves import are_one_chain, moved_at_once
from tests.support.s3_server import S3Server, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = "s3://models/team/a"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """An S3 server that the environment of this module leads to."""
    with S3Server("models") as running, mock.patch.dict(os.environ, environment(running.url)):
        yield running


@pytest.fixture(scope="module")
def replicas(s3: S3Server) -> Iterator[list[LocalServer]]:
    """Two servers with both roles on one store."""
    with ExitStack() as stack:
        servers = [stack.enter_context(LocalServer(store=STORE, wait=False)) for _ in range(2)]
        for server in servers:
            server.wait_until_serving()
        yield servers


@pytest.fixture(scope="module")
def clients(replicas: list[LocalServer]) -> Iterator[list[entropyd.Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(entropyd.Client(server.target)) for server in replicas]


def config(scale: float) -> entropyd.UniversalBatchedConfig:
    prior = priors.NoisyNormal(loc=[0.0, 1.0], scale=[scale, 1.0])
    return entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1)


def objects() -> list[str]:
    return [meta["path"] for page in obstore.list(from_url(STORE)) for meta in page]


def test_a_model_lives_in_the_bucket_and_every_server_serves_it(clients: list[entropyd.Client]) -> None:
    one, other = clients
    model = one.create_model(config(1.0))
    assert f"models/{model.id}.safetensors" in objects()
    x = np.random.default_rng(0).normal(0, 2, (50, 2)).astype(np.float32)
    compressed = model.compress(x)
    seen = other.model(model.id)
    assert seen.tables_digest == model.tables_digest
    np.testing.assert_array_equal(seen.decompress(compressed), model.decompress(compressed))
    assert model.id in {listed.id for listed in other.models()}
    other.delete_model(model.id)
    assert model.id not in {listed.id for listed in one.models()}
    assert f"models/{model.id}.safetensors" not in objects()
    with pytest.raises(entropyd.ModelNotFoundError):
        other.model(model.id)


def test_concurrent_creations_by_several_servers_give_one_object_and_one_answer(
    clients: list[entropyd.Client],
) -> None:
    fresh = [config(2.0 + number / 8) for number in range(4)]
    before = len(objects())
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda turn: clients[turn % 2].create_model(fresh[turn // 8]), range(32)))
    assert len(objects()) == before + len(fresh)
    for number, each in enumerate(fresh):
        told = {
            (model.id, model.tables_digest, model.info.created_at)
            for model in answers[8 * number : 8 * number + 8]
        }
        assert len(told) == 1
        assert next(iter(told))[0] == each.model_id


def test_a_large_model_is_created_once_too(s3: S3Server) -> None:
    # Above the size from which object stores are written in parts, which no condition guards.
    path, large = "models/large", bytes(8 * 1024 * 1024)
    store = from_url(STORE)
    obstore.put(store, path, large, mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, path, large, mode="create")
    obstore.delete(store, path)


@pytest.mark.parametrize("expecting", [False, True])
def test_concurrent_moves_of_a_name_lose_none(s3: S3Server, *, expecting: bool) -> None:
    stores = [ModelStore(f"s3://models/names/{expecting}") for _ in range(4)]
    moves = moved_at_once(stores, 5, expecting=expecting)
    assert moves
    assert are_one_chain(moves, asyncio.run(stores[0].names.get("moved")))


def test_every_server_sees_a_moved_name_at_once(clients: list[entropyd.Client]) -> None:
    one, other = clients
    ids = [one.create_model(config(scale)).id for scale in (5.0, 6.0)]
    for turn in range(4):
        one.name_model("turns", ids[turn % 2], expected="" if turn == 0 else ids[1 - turn % 2])
        assert other.model("turns").id == ids[turn % 2]
    assert "names/turns" in objects()
    other.unname_model("turns")
    with pytest.raises(entropyd.ModelNotFoundError, match="no model has the name turns"):
        one.model("turns")
    assert "turns" not in other.model_names()
