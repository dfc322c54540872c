"""Published configurations of nginx and Envoy, before three coding replicas and a modeling one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
from entropyd import priors
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from tests.support.envoy import start_envoy
from tests.support.load import under_load
from tests.support.nginx import start_nginx
from tests.support.stored_models import supplied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd_server.local import LocalServer
    from tests.support.replicas import Replica


@pytest.fixture(scope="module", params=["nginx", "envoy"])
def target(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    started_replicas: list[Replica],
    server: LocalServer,
) -> Iterator[str]:
    """The address of a proxy before the replicas."""
    folder = tmp_path_factory.mktemp(request.param)
    addresses = [replica.address for replica in started_replicas]
    if request.param == "nginx":
        with start_nginx(folder, addresses, server.target) as listen:
            yield listen
    else:
        with start_envoy(folder, addresses, server.target) as running:
            yield running.address


@pytest.fixture
def proxied(target: str, replicas: list[Replica]) -> Iterator[entropyd.Client]:
    """A client that knows the proxy only."""
    with entropyd.Client(target) as connected:
        yield connected


def answered(replicas: list[Replica], method: str) -> list[float]:
    """The calls of a method that each replica has answered."""
    return [replica.sample("entropyd_requests_total", method=method, code="OK") for replica in replicas]


def test_calls_go_to_their_roles(proxied: entropyd.Client, replicas: list[Replica]) -> None:
    before = sum(answered(replicas, "Compress"))
    prior = priors.NoisyNormal(loc=[0.0, 1.0, -2.0], scale=[0.5, 2.0, 6.0])
    # The coding replicas have no ModelService.
    model = proxied.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2))
    x = np.random.default_rng(0).normal(0, 3, (2, 40, 3)).astype(np.float32)
    assert np.abs(model.decompress(model.compress(x)) - x).max() <= 0.5 + 1e-6
    assert sum(answered(replicas, "Compress")) == before + 1
    assert proxied.server_info().roles == ("coding",)


def test_the_calls_of_a_model_go_to_one_replica(proxied: entropyd.Client, replicas: list[Replica]) -> None:
    owners = set()
    for number in range(24):
        model = proxied.create_model(supplied(number))
        before = answered(replicas, "Compress")
        for _ in range(4):
            model.compress(np.zeros((1, 5, 2), np.float32))
        more = [now - then for now, then in zip(answered(replicas, "Compress"), before, strict=True)]
        assert sorted(more) == [0, 0, 4]
        owners.add(more.index(4))
    assert len(owners) > 1


def test_a_message_of_many_megabytes_passes(proxied: entropyd.Client, model: entropyd.Model) -> None:
    # One coding unit, so that the client cannot cut it.
    x = np.random.default_rng(0).normal(0, 3, (1, 2_000_000, 3)).astype(np.float32)
    same = entropyd.Model(proxied._session, model.info)
    assert np.abs(same.decompress(same.compress(x)) - x).max() <= 0.5 + 1e-5


def test_streams_pass_in_both_directions(
    target: str, proxied: entropyd.Client, model: entropyd.Model
) -> None:
    x = np.random.default_rng(0).normal(0, 3, (2, 40, 3)).astype(np.float32)
    expected = model.compress(x).payload
    request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))

    async def main() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            call = stub.CompressStream(metadata=[("entropyd-model", model.id)])
            # Each answer before the next message: nothing on the way may wait for the end of either side.
            for number in range(50):
                await call.write(coding_pb2.CompressStreamRequest(request_id=str(number), request=request))
                answer = await call.read()
                assert answer.request_id == str(number)
                assert answer.response.compressed.payload == expected
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

    asyncio.run(main())


def test_errors_keep_their_details(proxied: entropyd.Client, model: entropyd.Model) -> None:
    x = np.zeros((3, 40, 3), np.float32)
    x[1, 0, 0] = np.nan
    same = entropyd.Model(proxied._session, model.info)
    with pytest.raises(entropyd.InvalidTensorError, match="coding unit 1"):
        same.compress(x)
    many = same.compress(np.zeros((120, 40, 3), np.float32)).strings
    with pytest.raises(entropyd.CorruptStringError) as caught:
        same.decompress([bytes(string) + b"more" for string in many], (40,))
    assert len(caught.value.units) >= 100
    with pytest.raises(entropyd.ModelNotFoundError) as missing:
        proxied.model("0" * 64)
    assert missing.value.metadata["model_id"] == "0" * 64


def test_a_client_that_watches_health_is_told_that_it_cannot(target: str, proxied: entropyd.Client) -> None:
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(health.Watch(health_pb2.HealthCheckRequest()))
    code: Any = caught.value
    assert code.code() is grpc.StatusCode.UNIMPLEMENTED


def test_replicas_that_are_killed_and_restarted_fail_no_call(
    target: str, proxied: entropyd.Client, replicas: list[Replica]
) -> None:
    # Enough models that every replica has some.
    models = [proxied.create_model(supplied(rank)) for rank in range(16)]

    async def main() -> None:
        async with under_load(models, target) as load:
            await load.answers(100)
            await asyncio.to_thread(replicas[0].kill)
            await load.answers(300)
            await asyncio.to_thread(replicas[0].start)
            await asyncio.to_thread(replicas[0].wait)
            for replica in replicas[1:]:
                await load.answers(100)
                await asyncio.to_thread(replica.restart)
            await load.answers(300)

    asyncio.run(main())


def test_one_replica_with_an_empty_cache_serves_every_model(
    proxied: entropyd.Client, replicas: list[Replica]
) -> None:
    models = [proxied.create_model(supplied(rank)) for rank in range(8)]
    for replica in replicas[:2]:
        replica.kill()
    replicas[2].restart()
    for model in models:
        x = np.zeros((1, 5, 2), np.float32)
        assert np.abs(model.decompress(model.compress(x))).max() <= 0.5
    assert replicas[2].sample("entropyd_model_cache_total", result="miss") == len(models)
