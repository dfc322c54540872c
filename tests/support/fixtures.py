"""Fixtures: real servers in processes of their own, and clients of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import entropyd
from entropyd import priors
from entropyd_server.local import LocalServer
from tests.support.interpreters import SERVER
from tests.support.operations import status_page_of
from tests.support.replicas import Replica, start_replicas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LocalServer._program = SERVER


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of models that the shared server uses."""
    folder: Path = tmp_path_factory.mktemp("store")
    return folder.as_uri()


@pytest.fixture(scope="session")
def server(store_url: str) -> Iterator[LocalServer]:
    """A server with both roles that tests share; a test that harms a server starts its own."""
    flags = ["--max-build-seconds", "60", "--metrics-listen", "127.0.0.1:0"]
    with LocalServer(*flags, store=store_url) as running:
        yield running
        # Whatever tests sent, it served to the end.
        assert running.process.poll() is None, running.log_path.read_text()
    assert running.process.returncode == 0


@pytest.fixture(scope="session")
def status_url(server: LocalServer) -> str:
    """The shared server's status page; /metrics lies beside it."""
    return status_page_of(server)


@pytest.fixture(scope="session")
def client(server: LocalServer) -> Iterator[entropyd.Client]:
    """A client of the shared server."""
    with entropyd.Client(server.target) as connected:
        yield connected


@pytest.fixture(scope="session")
def float_client(server: LocalServer) -> Iterator[entropyd.Client]:
    """A client of the shared server that sends values, not symbols."""
    with entropyd.Client(server.target, wire="float") as connected:
        yield connected


@pytest.fixture(scope="session")
def model(client: entropyd.Client) -> entropyd.Model:
    """A model with a prior_shape of one axis and escapes within easy reach."""
    prior = priors.NoisyNormal(loc=[0.0, 1.0, -2.0], scale=[0.5, 2.0, 6.0])
    return client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2))


@pytest.fixture(scope="session")
def started_replicas(store_url: str) -> Iterator[list[Replica]]:
    """Three servers with the coding role on the store of the shared server."""
    with start_replicas(3, store_url) as started:
        yield started


@pytest.fixture
def replicas(started_replicas: list[Replica], server: LocalServer) -> list[Replica]:
    """The three, all serving, whatever the test before did to them."""
    ended = [replica for replica in started_replicas if replica.ended]
    for replica in ended:
        replica.start()
    for replica in ended:
        replica.wait()
    return started_replicas
