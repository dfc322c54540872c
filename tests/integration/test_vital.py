"""What a server cannot do without is failed from outside: the server ends or goes on, and never is deaf."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
from entropyd import priors
from tests.integration.faulty_server import HANGS, FaultyServer
from tests.integration.load import free_ports
from tests.operations import status_page_of, until
from tests.stored_models import CHANNELS, put_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SMALL, LARGE = np.zeros((8, 8, CHANNELS), np.float32), np.zeros((64, 64, 64, CHANNELS), np.float32)


def nothing(server: FaultyServer) -> None:
    """For what goes round by itself."""


def scrape(server: FaultyServer) -> None:
    page = urlsplit(status_page_of(server))
    with contextlib.suppress(OSError):
        socket.create_connection((page.hostname or "", page.port or 0)).close()


def small_call(server: FaultyServer) -> None:
    call(server, SMALL)


def large_call(server: FaultyServer) -> None:
    call(server, LARGE)


def call(server: FaultyServer, array: Any) -> None:
    with entropyd.Client(server.target, timeout_s=5) as client, contextlib.suppress(entropyd.EntropydError):
        entropyd.Model(client, server.model).compress(array)


# By what raises: what has it called, and whether those who watch health can still be told.
LOOPS: dict[str, tuple[Callable[[FaultyServer], None], bool]] = {
    "entropyd_server.transport.server:Server._wait": (small_call, False),
    "entropyd_server.transport.turns:_Selector.select": (nothing, False),
    "entropyd_server.batching.batcher:Batcher._hand_out": (large_call, True),
    "entropyd_server.batching.batcher:Batcher._settle": (large_call, True),
    "asyncio.selector_events:BaseSelectorEventLoop.sock_accept": (scrape, True),
    "entropyd_server.observe.rates:Minute.add": (nothing, True),
    "entropyd_server.rpc.health:Health.alive": (nothing, False),
    "entropyd_server.security.reloading:Reloaded.refresh": (nothing, True),
}


@pytest.mark.parametrize("function", LOOPS)
def test_a_loop_that_fails_ends_the_server_and_health_says_so(function: str, tmp_path: Path) -> None:
    nudge, told = LOOPS[function]
    store = (tmp_path / "store").as_uri()
    model = put_model(store)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ci code {'0' * 64}\n")
    probed = f"127.0.0.1:{free_ports(1)[0]}"
    flags = ["--role", "coding", "--health-listen", probed, "--metrics-listen", "127.0.0.1:0"]
    if "security" in function:
        flags += ["--tokens-file", str(tokens)]
    with FaultyServer(function, "RuntimeError", tmp_path / "fault", *flags, store=store) as server:
        server.model = model
        statuses: list[int] = []
        first = threading.Event()

        def watch() -> None:
            with grpc.insecure_channel(probed) as channel, contextlib.suppress(grpc.RpcError):
                stub: Any = health_pb2_grpc.HealthStub(channel)
                for reply in stub.Watch(health_pb2.HealthCheckRequest(), timeout=60):
                    statuses.append(reply.status)
                    first.set()

        watching = threading.Thread(target=watch)
        watching.start()
        assert first.wait(30)
        server.fail()
        nudge(server)
        assert server.process.wait(30) not in (0, None)
        watching.join()
        assert statuses[0] == SERVING
        assert statuses[-1] == NOT_SERVING or not told
        assert server.failed
        assert "failed, so the server ends" in server.log_path.read_text()


def test_a_supervisor_that_fails_ends_the_server(tmp_path: Path) -> None:
    function = "entropyd_server.modeling.supervisor:WorkerSupervisor._run_one"
    with FaultyServer(function, "RuntimeError", tmp_path / "fault", wait=False).fail() as server:
        assert server.process.wait(60) not in (0, None)
        assert "failed, so the server ends" in server.log_path.read_text()


def test_an_answer_of_a_worker_that_cannot_be_read_costs_the_worker_and_no_call(tmp_path: Path) -> None:
    function = "entropyd_server.modeling.protocol:Frame.from_blob"
    with FaultyServer(function, "MemoryError", tmp_path / "fault") as server:
        with entropyd.Client(server.target) as client:
            server.fail()
            prior = priors.NoisyNormal(loc=0.0, scale=1.0)
            client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1))
        assert server.failed


@pytest.mark.parametrize("function", ["_code_shares", "_code_at_once", "submit"])
def test_memory_that_one_call_lacks_costs_that_call_alone(function: str, tmp_path: Path) -> None:
    store = (tmp_path / "store").as_uri()
    info = put_model(store)
    named = f"entropyd_server.batching.batcher:Batcher.{function}"
    with FaultyServer(named, "MemoryError", tmp_path / "fault", "--role", "coding", store=store) as server:
        with entropyd.Client(server.target) as client:
            model = entropyd.Model(client, info)
            model.compress(SMALL)
            server.fail()
            for _ in range(3):
                model.compress(SMALL)
                model.compress(LARGE)
        assert server.failed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_that_fails_while_it_drains(number: int, tmp_path: Path) -> None:
    function = "entropyd_server.app:_pause"
    with FaultyServer(function, "RuntimeError", tmp_path / "fault", "--role", "coding") as server:
        server.fail().process.send_signal(number)
        assert server.process.wait(60) not in (0, None)


def test_a_second_signal_ends_a_server_whose_event_loop_is_held_up(tmp_path: Path) -> None:
    function = "entropyd_server.rpc.health:Health.alive"
    with FaultyServer(function, HANGS, tmp_path / "fault", "--role", "coding") as server:
        server.fail()
        until(lambda: server.failed, "the event loop is not held up")

        def ended() -> bool:
            server.process.send_signal(signal.SIGTERM)
            return server.process.poll() is not None

        until(ended, "no signal ends it")
        assert server.process.returncode == -signal.SIGALRM
        assert "in faulty" in server.log_path.read_text()


def test_hang_up_reloads_files_and_ends_nothing(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ci code {'0' * 64}\n")
    with FaultyServer(
        "os:getcwd", "OSError", tmp_path / "fault", "--role", "coding", "--tokens-file", str(tokens)
    ) as server:
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP" in server.log_path.read_text(), "no word of SIGHUP")
        server.wait_until_serving()
        assert server.stop() == 0
