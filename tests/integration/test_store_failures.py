"""A store that is slow, silent, full, read-only or gone: errors that say which, in time, without paths."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
import numpy as np
import pytest

import entropyd
from entropyd import priors
from entropyd._channel import to_error
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.coding.tables import CodingTables
from entropyd_server.local import LocalServer
from entropyd_server.store.model_store import ModelStore
from tests.support.operations import status_page_of, until
from tests.support.prometheus import Prometheus
from tests.support.s3_server import S3Server, environment
from tests.support.tcp_gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    import numpy.typing as npt

TABLES = CodingTables.parse([-4, 0, 3, 16, -4, 0, 1, 2, 16], [-1, 5])
STORE = "s3://models/team/a"


def config(rank: int = 1) -> entropyd.UniversalBatchedConfig:
    return entropyd.UniversalBatchedConfig(
        prior=priors.NoisyNormal(0.0, [1.0, 2.0]),
        coding_rank=rank,
        num_noise_levels=1,
        range_coder_precision=4,
    )


def calls(store: ModelStore) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """Every way to use a store."""
    model_id = config().model_id
    return [
        store.probe,
        lambda: store.create(config(), TABLES, {}),
        lambda: store.load(model_id),
        lambda: store.list_ids(10),
        lambda: store.delete(model_id),
    ]


def test_a_store_that_cannot_be_is_named_when_the_server_starts() -> None:
    command = [sys.executable, "-m", "entropyd_server", "--role", "coding", "--listen", "127.0.0.1:0"]
    ran = subprocess.run(
        [*command, "--metrics-listen", "", "--store", "/sys/nope"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode in (1, 2)
    assert "/sys/nope" in ran.stderr
    assert "relative URL" not in ran.stderr
    assert "Traceback" not in ran.stderr


def refusal(call: Callable[[], Coroutine[Any, Any, Any]]) -> entropyd.UnavailableError:
    with pytest.raises(entropyd.UnavailableError) as caught:
        asyncio.run(call())
    assert caught.value.reason == "STORE_UNAVAILABLE"
    return caught.value


def failures(store: ModelStore) -> dict[tuple[str, str], int]:
    """What a store counted of operations that failed."""
    return {pair: count for pair, count in store.operations.items() if count and pair[1] != "ok"}


def one_of_each(result: str) -> dict[tuple[str, str], int]:
    """What a store counts of `calls` that all fail in one way; two of them list."""
    return {("list", result): 2, ("write", result): 1, ("read", result): 1, ("delete", result): 1}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server("models", "closed") as running:
        yield running


@contextmanager
def reached_over(address: tuple[str, int]) -> Iterator[None]:
    """The environment in which `s3://` URLs lead to an address."""
    with mock.patch.dict(os.environ, environment(f"http://127.0.0.1:{address[1]}")):
        yield


@pytest.fixture
def gate(s3: S3Server) -> Iterator[Gate]:
    """What stands between a store and its S3 server."""
    with Gate(s3.address) as standing, reached_over(standing.address):
        yield standing


def test_a_store_that_is_slow_gives_right_answers(gate: Gate) -> None:
    store = ModelStore(STORE)
    gate.delay_s = 0.2
    stored, _ = asyncio.run(store.create(config(), TABLES, {}))
    assert stored.tables is not None
    assert stored.tables.digest == TABLES.digest
    asyncio.run(store.delete(config().model_id))


def test_a_store_that_never_answers_fails_every_call_in_its_time(gate: Gate) -> None:
    gate.stall()
    store = ModelStore(STORE, timeout_s=0.3)
    for call in calls(store):
        started = time.monotonic()
        error = refusal(call)
        assert "did not answer within 0.3 s" in error.message
        assert error.retry_after_s is not None
        assert time.monotonic() - started < 10  # obstore's own limit is 30 s, and then it would try again
    assert failures(store) == one_of_each("silent")


def test_a_store_that_is_gone_fails_every_call_and_keeps_its_address_to_itself() -> None:
    with S3Server("models") as gone:
        pass
    with reached_over(gone.address):
        store = ModelStore(STORE)
        for call in calls(store):
            error = refusal(call)
            assert error.message == "the model store cannot be reached"
            assert error.retry_after_s is not None
    assert failures(store) == one_of_each("unreachable")


def test_a_bucket_that_does_not_exist_is_no_empty_store(s3: S3Server) -> None:
    with reached_over(s3.address):
        for call in calls(ModelStore("s3://nowhere")):
            assert "nowhere" not in refusal(call).message


def test_a_bucket_that_may_only_be_read_is_said_so_and_is_read(s3: S3Server) -> None:
    with reached_over(s3.address):
        store = ModelStore("s3://closed")
        asyncio.run(store.create(config(), TABLES, {}))
        rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject"}
        statement = [{**rule, "Resource": "arn:aws:s3:::closed/*"}]
        s3.put("closed?policy", json.dumps({"Version": "2012-10-17", "Statement": statement}).encode())
        error = refusal(lambda: store.create(config(2), TABLES, {}))
        assert "refused to write a model" in error.message
        assert error.retry_after_s is None
        assert failures(store) == {("write", "refused"): 1}
        assert asyncio.run(store.list_ids(10)) == [config().model_id]
        assert asyncio.run(store.load(config().model_id)).tables is not None


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a few small models."""
    folder = tmp_path / "volume"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounting.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounting.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_without_space_is_said_so_and_is_read(volume: Path) -> None:
    store = ModelStore((volume / "store").as_uri())
    asyncio.run(store.create(config(), TABLES, {}))
    filler = volume / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], capture_output=True, check=False)
    error = refusal(lambda: store.create(config(2), TABLES, {}))
    assert "is full" in error.message
    assert failures(store) == {("write", "full"): 1}
    assert str(volume) not in error.message
    assert asyncio.run(store.list_ids(10)) == [config().model_id]
    assert asyncio.run(store.load(config().model_id)).tables is not None
    filler.unlink()
    assert asyncio.run(store.create(config(2), TABLES, {}))[1]


def test_a_folder_that_may_only_be_read_is_said_so_and_is_read(volume: Path) -> None:
    store = ModelStore((volume / "store").as_uri())
    asyncio.run(store.create(config(), TABLES, {}))
    subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
    for call, done in (
        (lambda: store.create(config(2), TABLES, {}), "write"),
        (lambda: store.delete(config().model_id), "delete"),
    ):
        error = refusal(call)
        assert f"refused to {done} a model" in error.message
        assert str(volume) not in error.message
    assert failures(store) == {("write", "refused"): 1, ("delete", "refused"): 1}
    assert asyncio.run(store.list_ids(10)) == [config().model_id]
    assert asyncio.run(store.load(config().model_id)).tables is not None


def test_a_folder_that_is_gone_is_no_empty_store_and_is_not_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = ModelStore(folder.as_uri())
    folder.rmdir()
    for call in calls(store):
        assert refusal(call).message == "the model store's folder is gone"
    assert failures(store) == one_of_each("gone")
    assert not folder.exists()


def test_a_store_that_cannot_be_opened_is_said_so_at_the_start() -> None:
    command = [sys.executable, "-m", "entropyd_server", "--role", "coding", "--metrics-listen", ""]
    ended = subprocess.run([*command, "--store", "nfs://folder"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cannot open the store nfs://folder" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_loaded_models_serve_on_while_the_store_is_silent_and_when_it_is_gone() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 30, 2)).astype(np.float32)
    with S3Server("models") as s3, Gate(s3.address) as gate, reached_over(gate.address):
        store = ModelStore(STORE)
        loaded, other = [asyncio.run(store.create(config(rank), TABLES, {}))[0] for rank in (1, 2)]
        flags = ["--role", "coding", "--store-timeout-seconds", "1"]
        with LocalServer(*flags, store=STORE) as server, unretried(server.target) as stub:
            payload = stub.Compress(request(loaded.config, x)).compressed.payload
            gate.stall()
            error = refused(stub, request(other.config, x))
            assert error.message == "the model store did not answer within 1 s"
            assert stub.Compress(request(loaded.config, x)).compressed.payload == payload
            gate.open()
            assert stub.Compress(request(other.config, x)).compressed.payload
            s3.stop()
            error = refused(stub, request(config(3), x[None]))
            assert error.message == "the model store cannot be reached"
            for each in (loaded, other):
                assert stub.Compress(request(each.config, x)).compressed.payload


def test_an_alert_tells_of_a_store_that_fails_and_how() -> None:
    x = np.zeros((2, 30, 2), np.float32)
    with S3Server("models") as s3, Gate(s3.address) as gate, reached_over(gate.address):
        stored, _ = asyncio.run(ModelStore(STORE).create(config(), TABLES, {}))
        flags = ["--role", "coding", "--store-timeout-seconds", "1", "--metrics-listen", "127.0.0.1:0"]
        with (
            LocalServer(*flags, store=STORE) as server,
            unretried(server.target) as stub,
            Prometheus(status_page_of(server)) as prometheus,
        ):
            assert stub.Compress(request(stored.config, x)).compressed.payload
            until(lambda: counted(prometheus, "read", "ok") == 1, "a read that does well is scraped")
            assert counted(prometheus, "read", "silent") == 0
            assert alerting(prometheus) == set()
            gate.stall()
            refused(stub, request(config(2), x))
            until(lambda: alerting(prometheus) == {("read", "silent")}, "the alert of a silent store")
            assert counted(prometheus, "read", "silent") == 1
            gate.open()
            s3.stop()
            refused(stub, request(config(3), x[None]))
            both = {("read", "silent"), ("read", "unreachable")}
            until(lambda: alerting(prometheus) == both, "the alert of a store that is gone")


def counted(prometheus: Prometheus, operation: str, result: str) -> float | None:
    """Operations on the store as they were scraped last; None before that."""
    of = f'entropyd_store_operations_total{{operation="{operation}", result="{result}"}}'
    series = prometheus.query(of)
    return float(series[0]["value"][1]) if series else None


def alerting(prometheus: Prometheus) -> set[tuple[str, str]]:
    """Operations and results of which the alert tells."""
    series = prometheus.query('ALERTS{alertname="EntropydStoreFails", alertstate="firing"}')
    return {(one["metric"]["operation"], one["metric"]["result"]) for one in series}


@contextmanager
def unretried(target: str) -> Iterator[Any]:
    """A stub whose first failure is seen."""
    with grpc.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        yield coding_pb2_grpc.CodingServiceStub(channel)


def request(config: entropyd.ModelConfig, x: npt.NDArray[np.float32]) -> Any:
    return coding_pb2.CompressRequest(model_id=config.model_id, bottleneck=tensor_to_message(x))


def refused(stub: Any, message: Any) -> entropyd.EntropydError:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Compress(message)
    error = to_error(caught.value)
    assert isinstance(error, entropyd.UnavailableError)
    assert error.reason == "STORE_UNAVAILABLE"
    return error
