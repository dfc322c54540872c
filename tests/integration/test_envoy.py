"""deploy/envoy/envoy.yaml, in a real Envoy: what it adds to what every proxy does (test_proxies.py)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
from entropyd import _channel
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.certificates import Authority
from tests.support.envoy import NAME, Envoy, envoy, published, start_envoy
from tests.support.interpreters import CODING_SERVER
from tests.support.replicas import Replica, start_replicas
from tests.support.stored_models import CHANNELS, put_model, supplied

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLERS = 16
NO_RETRIES = [("grpc.enable_retries", 0), ("grpc.max_send_message_length", -1)]


class CodingServer(LocalServer):
    """A server with the coding role."""

    _program = CODING_SERVER


@dataclass(frozen=True)
class Secured:
    """A replica with TLS.

    Attributes:
      folder: Has tls.crt, tls.key and ca.crt.
      target: Where it listens.
      info: Its model.
      credentials: For clients of whoever has the certificate.
    """

    folder: Path
    target: str
    info: entropyd.ModelInfo
    credentials: grpc.ChannelCredentials


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, started_replicas: list[Replica], server: LocalServer
) -> Iterator[Envoy]:
    """Envoy before the replicas."""
    addresses = [replica.address for replica in started_replicas]
    with start_envoy(tmp_path_factory.mktemp("envoy"), addresses, server.target) as running:
        yield running


@pytest.fixture(scope="module")
def models(client: entropyd.Client) -> list[str]:
    """Ids of enough models that every replica has some."""
    return [client.create_model(supplied(number)).id for number in range(24)]


def compression(model_id: str, elements: int = 5) -> Any:
    """A request."""
    x = np.zeros((1, elements, 2), np.float32)
    return coding_pb2.CompressRequest(model_id=model_id, bottleneck=tensor_to_message(x))


def compress(stub: Any, model_id: str, elements: int = 5) -> None:
    """Makes one call as clients do, but for their retries."""
    stub.Compress(compression(model_id, elements), metadata=[("entropyd-model", model_id)], timeout=30)


def owners(running: Envoy, replicas: list[Replica], models: list[str]) -> list[int]:
    """The number of the replica that answers the calls of each model."""
    found = []
    with grpc.insecure_channel(running.address, NO_RETRIES) as channel:
        stub = coding_pb2_grpc.CodingServiceStub(channel)
        compress(stub, models[0])  # after it, the thread that has this connection knows of changes until now
        before = running.answered()
        for model_id in models:
            compress(stub, model_id)
            after = running.answered()
            more = [after[replica.address] - before[replica.address] for replica in replicas]
            assert sum(more) == 1
            found.append(more.index(1))
            before = after
    return found


@pytest.mark.parametrize("tls", [False, True])
def test_envoy_takes_the_published_file_without_a_warning(tmp_path: Path, *, tls: bool) -> None:
    conf = json.dumps(published(tls=tls))
    authority = Authority("entropyd")
    cert, key = authority.issue(tmp_path, "tls")
    for name, path in (("tls.crt", cert), ("tls.key", key), ("ca.crt", authority.write(tmp_path / "ca.crt"))):
        assert (f"/etc/envoy/tls/{name}" in conf) is tls
        conf = conf.replace(f"/etc/envoy/tls/{name}", str(path))
    path = tmp_path / "envoy.json"
    path.write_text(conf)
    command = [envoy(), "--mode", "validate", "--config-path", str(path), "--log-level", "warning"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_calls_are_repeated_only_where_every_call_of_the_service_may_be() -> None:
    (listener,) = published()["static_resources"]["listeners"]
    (manager,) = listener["filter_chains"][0]["filters"]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    harmless = {"connect-failure", "refused-stream"}  # a replica that took no call has done nothing
    repeated = {
        route["match"]["prefix"]
        for route in host["routes"]
        if set(route["route"].get("retry_policy", {}).get("retry_on", "").split(",")) - {""} - harmless
    }
    service = coding_pb2.DESCRIPTOR.services_by_name["CodingService"]
    assert {method.name for method in service.methods} == set(_channel._IDEMPOTENT["CodingService"])
    assert repeated == {f"/{service.full_name}/"}


def test_replicas_that_restart_fail_no_call_of_a_client_without_retries(
    proxy: Envoy, replicas: list[Replica], models: list[str]
) -> None:
    async def main() -> int:
        calls, ending = 0, asyncio.Event()
        async with grpc.aio.insecure_channel(proxy.address, NO_RETRIES) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)

            async def caller(number: int) -> None:
                nonlocal calls
                for turn in range(number, 1_000_000):
                    if ending.is_set():
                        return
                    model_id = models[turn % len(models)]
                    await stub.Compress(
                        compression(model_id), metadata=[("entropyd-model", model_id)], timeout=30
                    )
                    calls += 1

            callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
            for replica in replicas:
                await asyncio.to_thread(replica.restart)
            ending.set()
            await asyncio.gather(*callers)
        return calls

    assert asyncio.run(main()) > 100


def test_a_lost_replica_moves_only_its_own_models(
    proxy: Envoy, replicas: list[Replica], models: list[str]
) -> None:
    proxy.wait_for_replicas()
    before = owners(proxy, replicas, models)
    assert set(before) == {0, 1, 2}
    replicas[0].stop()
    after = owners(proxy, replicas, models)
    moved = [was for was, now in zip(before, after, strict=True) if was != now]
    assert moved == [0] * before.count(0)
    assert {now for was, now in zip(before, after, strict=True) if was == 0} == {1, 2}


def test_the_places_of_replicas_outlive_their_addresses(
    tmp_path: Path, proxy: Envoy, replicas: list[Replica], server: LocalServer, models: list[str]
) -> None:
    proxy.wait_for_replicas()
    before = owners(proxy, replicas, models)
    # The second Envoy finds other addresses behind the same keys.
    others = [replicas[1], replicas[2], replicas[0]]
    with start_envoy(tmp_path, [replica.address for replica in others], server.target) as running:
        assert owners(running, others, models) == before


def test_a_replica_that_fails_every_call_is_ejected_and_callers_see_nothing_of_it(
    tmp_path: Path, replicas: list[Replica], server: LocalServer, models: list[str]
) -> None:
    store = tmp_path / "gone"
    with start_replicas(1, store.as_uri()) as (broken,):
        shutil.rmtree(store)
        members = [broken, *replicas[1:]]
        with start_envoy(tmp_path, [replica.address for replica in members], server.target) as running:
            with grpc.insecure_channel(
                running.address, [*NO_RETRIES, ("grpc.max_send_message_length", -1)]
            ) as channel:
                stub = coding_pb2_grpc.CodingServiceStub(channel)
                lost = None
                for model_id in models:
                    failures = broken.sample("entropyd_requests_total", code="UNAVAILABLE")
                    compress(stub, model_id)
                    if broken.sample("entropyd_requests_total", code="UNAVAILABLE") > failures:
                        lost = model_id
                        break
                assert lost is not None
                # Envoy keeps no copy of so large a message, and passes the failure on.
                with pytest.raises(grpc.RpcError) as caught:
                    compress(stub, lost, 1_000_000)
                failed: Any = caught.value
                assert failed.code() is grpc.StatusCode.UNAVAILABLE
                ejections = "cluster.coding.outlier_detection.ejections_enforced_consecutive_gateway_failure"
                assert running.counter(ejections) == 0
                for _ in range(20):
                    compress(stub, lost)
                assert running.counter(ejections) == 1


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A replica with TLS."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority("entropyd")
    cert, key = authority.issue(folder, "tls")
    ca = authority.write(folder / "ca.crt")
    store = (folder / "store").as_uri()
    info = put_model(store)
    flags = ["--role", "coding", "--tls-cert", str(cert), "--tls-key", str(key)]
    credentials = entropyd.tls_credentials(ca)
    with CodingServer(*flags, listen="127.0.0.1:0", store=store, credentials=credentials) as running:
        yield Secured(folder, running.target, info, credentials)


@contextmanager
def secured_envoy(folder: Path, secured: Secured, name: str) -> Iterator[Envoy]:
    """Envoy with TLS on both sides, which expects the replica's certificate to have a name."""
    conf = json.dumps(published(tls=True)).replace("/etc/envoy/tls", str(secured.folder)).replace(NAME, name)
    with start_envoy(folder, [secured.target], secured.target, json.loads(conf)) as running:
        yield running


def test_calls_pass_over_tls_on_both_sides(tmp_path: Path, secured: Secured) -> None:
    x = np.zeros((2, 5, CHANNELS), np.float32)
    with (
        secured_envoy(tmp_path, secured, "localhost") as running,
        entropyd.Client(running.address, credentials=secured.credentials) as client,
    ):
        model = entropyd.Model(client._session, secured.info)
        np.testing.assert_array_equal(model.decompress(model.compress(x)), x)


def test_a_replica_whose_certificate_has_another_name_gets_no_calls(tmp_path: Path, secured: Secured) -> None:
    with (
        secured_envoy(tmp_path, secured, "other.example.org") as running,
        grpc.secure_channel(running.address, secured.credentials, NO_RETRIES) as channel,
    ):
        assert running.left_out() == {secured.target}
        with pytest.raises(grpc.RpcError) as caught:
            compress(coding_pb2_grpc.CodingServiceStub(channel), secured.info.id)
    failed: Any = caught.value
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
