"""Laws of names of models: they lead to ids, and nothing but ids leaves the client."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
from entropyd import aio
from entropyd.v1 import model_pb2, model_pb2_grpc
from entropyd_server.local import LocalServer
from tests.unit.client.contract.test_names import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 8


def config(first: int) -> entropyd.TabulatedConfig:
    """A model of integers from -1 to 1 that no other test uses."""
    return entropyd.TabulatedConfig([[0, first, 129, 255, 256]], [-1], coding_rank=2, precision=8)


@pytest.fixture(scope="module")
def models(client: entropyd.Client) -> list[entropyd.Model]:
    return [client.create_model(config(first)) for first in (31, 33)]


def test_each_call_of_a_name_that_moves_uses_one_of_its_models(
    server: LocalServer, client: entropyd.Client, models: list[entropyd.Model]
) -> None:
    one, other = models
    x = np.random.default_rng(0).integers(-1, 2, (4, 9, 1)).astype(np.float32)
    expected = {model.id: model.compress(x).strings.tolist() for model in models}
    client.name_model("moving", one.id)
    done = Event()

    def move() -> int:
        moves = 0
        while not done.is_set():
            for old, new in ((one, other), (other, one)):
                assert client.name_model("moving", new.id, expected=old.id) == old.id
                moves += 1
        return moves

    def code(_: int) -> list[entropyd.CompressedTensor]:
        with entropyd.Client(server.target) as own:
            return [own.model("moving").compress(x) for _ in range(10)]

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        moving = pool.submit(move)
        try:
            made = [compressed for each in pool.map(code, range(CLIENTS)) for compressed in each]
        finally:
            done.set()
        assert moving.result() >= 2
    client.unname_model("moving")
    for compressed in made:
        assert compressed.strings.tolist() == expected[compressed.model_id]
        np.testing.assert_array_equal(client.model(compressed.model_id).decompress(compressed), x)


def test_a_model_keeps_its_id_when_its_name_moves(
    client: entropyd.Client, models: list[entropyd.Model]
) -> None:
    one, other = models
    assert client.name_model("kept", one.id) == ""
    named = client.model("kept")
    assert client.name_model("kept", other.id[:12]) == one.id
    assert (named.id, client.model("kept").id) == (one.id, other.id)
    assert client.name_model("kept-too", "kept") == ""
    assert {"kept", "kept-too"} <= client.model_names().keys()
    assert client.unname_model("kept") == other.id
    assert client.model("kept-too").id == other.id
    client.unname_model("kept-too")


def test_names_are_given_with_what_makes_a_model(client: entropyd.Client) -> None:
    made = client.create_model(config(35), name="born")
    assert client.model("born").id == made.id
    assert client.import_model(made.export(), name="born-again").id == made.id
    assert client.create_model(config(37), name="born").id == client.model("born").id != made.id
    assert client.model_names()["born-again"] == made.id
    with pytest.raises(entropyd.InvalidRequestError, match="name is 'Born'; expected 1 to 64 of"):
        client.create_model(config(39), name="Born")
    with pytest.raises(entropyd.ModelNotFoundError):
        client.model(config(39).model_id)


def test_the_asynchronous_client_has_the_same_names(
    server: LocalServer, models: list[entropyd.Model]
) -> None:
    one, other = models

    async def use() -> None:
        async with aio.Client(server.target) as client:
            assert await client.name_model("async-name", one.id, expected="") == ""
            assert (await client.create_model(other.config, name="async-name")).id == other.id
            with pytest.raises(entropyd.ModelStateError, match="the name async-name points at model"):
                await client.name_model("async-name", one.id, expected=one.id)
            assert (await client.model("async-name")).id == other.id
            assert (await client.model_names())["async-name"] == other.id
            assert await client.unname_model("async-name", expected=other.id) == other.id

    asyncio.run(use())


def test_names_outlive_servers_and_the_models_that_they_point_at(tmp_path: Path) -> None:
    for run in range(2):
        with LocalServer("--role", "registry", store=str(tmp_path)) as server:
            with entropyd.Client(server.target) as client:
                if run == 0:
                    model = client.create_model(config(41), name="lasting")
                    continue
                assert client.model("lasting").id == model.id
                client.delete_model("lasting")
                dangling = f"the name lasting points at model {model.id}, which is not in the store"
                with pytest.raises(entropyd.ModelNotFoundError, match=dangling):
                    client.model("lasting")
                with pytest.raises(entropyd.ModelNotFoundError):
                    client.name_model("lasting", model.id)
                assert client.model_names() == {"lasting": model.id}
                assert client.create_model(config(41)).id == client.model("lasting").id
                assert client.unname_model("lasting") == model.id


def test_hostile_names_are_refused_by_client_and_server(
    server: LocalServer, client: entropyd.Client, models: list[entropyd.Model]
) -> None:
    before = client.model_names()
    with grpc.insecure_channel(server.target) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        for name in HOSTILE:
            refusals: list[Any] = [
                lambda name=name: client.name_model(name, models[0].id),
                lambda name=name: client.unname_model(name),
            ]
            for refused in refusals:
                with pytest.raises(entropyd.InvalidRequestError, match="expected 1 to 64 of a-z"):
                    refused()
            if not isinstance(name, str) or name == "\ud800":
                continue  # protobuf takes no such name
            for method, request in (
                (stub.SetModelName, model_pb2.SetModelNameRequest(name=name, model_id=models[0].id)),
                (stub.DeleteModelName, model_pb2.DeleteModelNameRequest(name=name)),
                (stub.ResolveModelName, model_pb2.ResolveModelNameRequest(name=name)),
            ):
                with pytest.raises(grpc.RpcError, match="expected 1 to 64 of a-z") as caught:
                    method(request)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert client.model_names() == before


def test_what_does_not_exist_is_named(client: entropyd.Client, models: list[entropyd.Model]) -> None:
    with pytest.raises(entropyd.ModelNotFoundError, match="no model has the name nobody"):
        client.model("nobody")
    with pytest.raises(entropyd.ModelNotFoundError, match="no model has the name nobody"):
        client.unname_model("nobody")
    with pytest.raises(entropyd.ModelNotFoundError, match="0" * 64):
        client.name_model("nobody", "0" * 64)
    with pytest.raises(entropyd.InvalidRequestError, match="expected_model_id is 'nobody'"):
        client.name_model("nobody", models[0].id, expected="nobody")
