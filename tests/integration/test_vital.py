"""What a server cannot do without is failed from outside: the server ends or goes on, and never is deaf."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
from entropyd import priors
from entropyd_server.local import LocalServer
from tests.support.faulty_server import HANGS, FaultyServer
from tests.support.load import free_ports
from tests.support.operations import status_page_of, until
from tests.support.stored_models import CHANNELS, put_model
from tests.support.transports import Current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
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
        entropyd.Model(client._session, server.model).compress(array)


CORE = Current.transport.name == "core"
HEALTH = "entropyd_server.rpc.health:Health.alive"
# By what raises: what has it called, and whether those who watch health can still be told.
LOOPS: dict[str, tuple[Callable[[FaultyServer], None], bool]] = {
    "entropyd_server.batching.batcher:Batcher._start_batches": (large_call, True),
    "entropyd_server.batching.batcher:Batcher._settle": (large_call, True),
    "asyncio.selector_events:BaseSelectorEventLoop.sock_accept": (scrape, True),
    "entropyd_server.observe.rates:Minute.add": (nothing, True),
    HEALTH: (nothing, False),
    "entropyd_server.security.reloading:Reloaded.refresh": (nothing, True),
    "entropyd_server.transport.stalls:Stalls.look": (nothing, True),
}
if CORE:
    LOOPS |= {
        "entropyd_server.transport.core_server:CoreServer._next": (small_call, False),
        "entropyd_server.transport.turns:_Selector.select": (nothing, False),
    }
# What a server that starts cannot do without.
STARTS = (
    "entropyd_server.coding.self_test:warm_up",
    "entropyd_server.modeling.supervisor:WorkerSupervisor._run_one",
)
# What runs for one call, and is not told which, where it fails.
CALLS = (
    "entropyd_server.batching.batcher:Batcher._run_together",
    "entropyd_server.batching.batcher:Batcher._run_inline",
    "entropyd_server.batching.batcher:Batcher.submit",
    *(
        (
            "entropyd_server.transport.call:Call.__init__",
            "entropyd_server.transport.core_server:CoreServer._open",
            "entropyd_server.transport.core_server:CoreServer._begin",
        )
        if CORE
        else ("entropyd_server.transport.aio_server:AioServer._answer",)
    ),
)
READING, LOGGING = (
    "entropyd_server.modeling.protocol:Frame.from_blob",
    "asyncio.streams:StreamReader.readline",
)
WATCHING = "entropyd_server.modeling.limits:WorkLimits.exceeded"
JOINING = "entropyd_server.modeling.perturbation:Perturbed.join"


class Outcome(NamedTuple):
    """How a server ended: its exit status, what it told of its health, and its log."""

    code: int
    statuses: list[int]
    log: str


def fail_loop(function: str, folder: Path) -> Outcome:
    nudge, _ = LOOPS[function]
    folder.mkdir()
    store = (folder / "store").as_uri()
    model = put_model(store)
    tokens = folder / "tokens"
    tokens.write_text(f"ci code {'0' * 64}\n")
    probed = f"127.0.0.1:{free_ports(1)[0]}"
    flags = ["--role", "coding", "--health-listen", probed, "--metrics-listen", "127.0.0.1:0"]
    flags += ["--receive-timeout-seconds", "1"]
    if "security" in function:
        flags += ["--tokens-file", str(tokens)]
    with FaultyServer({function: "RuntimeError"}, folder / "faults", *flags, store=store) as server:
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
        code = server.process.wait(30)
        watching.join()
        assert server.failed
        return Outcome(code, statuses, server.log_path.read_text())


def hold_up(folder: Path) -> Outcome:
    folder.mkdir()
    with FaultyServer({HEALTH: HANGS}, folder / "faults", "--role", "coding") as server:
        server.fail()
        until(lambda: server.failed, "the event loop is not held up")

        def ended() -> bool:
            server.process.send_signal(signal.SIGTERM)
            return server.process.poll() is not None

        until(ended, "no signal ends it")
        return Outcome(server.process.returncode, [], server.log_path.read_text())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome]]]:
    """How servers end whose loops fail, by function, and one that is held up; side by side, for they wait."""
    folder = tmp_path_factory.mktemp("servers")
    with ThreadPoolExecutor(3) as pool:
        submitted = {HANGS: pool.submit(hold_up, folder / HANGS)}
        submitted |= {name: pool.submit(fail_loop, name, folder / name) for name in LOOPS}
        yield submitted


@pytest.mark.parametrize("function", LOOPS)
def test_a_loop_that_fails_ends_the_server_and_health_says_so(
    function: str, outcomes: dict[str, Future[Outcome]]
) -> None:
    _, told = LOOPS[function]
    outcome = outcomes[function].result()
    assert outcome.code != 0
    assert outcome.statuses[0] == SERVING
    assert outcome.statuses[-1] == NOT_SERVING or not told
    assert "failed, so the server ends" in outcome.log


@pytest.mark.parametrize("function", STARTS)
def test_a_server_that_cannot_start_ends(function: str, tmp_path: Path) -> None:
    server = FaultyServer({function: "RuntimeError"}, tmp_path / "faults", wait=False).fail()
    with server:
        assert server.process.wait(60) != 0
        assert server.failed
        assert "failed, so the server ends" in server.log_path.read_text()


def test_what_fails_around_a_worker_costs_no_more_than_a_call(tmp_path: Path) -> None:
    faults = dict.fromkeys((LOGGING, READING, JOINING), "MemoryError") | {WATCHING: "RuntimeError"}
    prior = priors.NoisyNormal(loc=[0.0, 1.0], scale=1.0)
    config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1)
    # Nothing that the first worker says can be logged, so another is started.
    with (
        FaultyServer(faults, tmp_path / "faults").fail(LOGGING) as server,
        entropyd.Client(server.target) as client,
    ):
        assert server.failed
        # It cannot be read what the worker answers, so another does the work.
        server.fail(READING)
        model = client.create_model(config)
        assert server.failed
        server.fail(JOINING)
        model.perturb(np.zeros((3, 2), np.float32))
        assert server.failed
        # Nobody looks whether the worker stays within its limits, so it may not go on.
        server.fail(WATCHING)
        with pytest.raises(entropyd.InternalError):
            model.perturb(np.zeros((3, 2), np.float32))
        assert server.failed
        assert server.process.poll() is None


def test_what_fails_for_want_of_memory_costs_a_call_alone(tmp_path: Path) -> None:
    store = (tmp_path / "store").as_uri()
    info = put_model(store)
    faults = dict.fromkeys(CALLS, "MemoryError")
    with (
        FaultyServer(faults, tmp_path / "faults", "--role", "coding", store=store) as server,
        entropyd.Client(server.target) as client,
    ):
        model = entropyd.Model(client._session, info)
        for function in CALLS:
            server.fail(function)
            for _ in range(3):
                model.compress(SMALL)
                model.compress(LARGE)
            assert server.failed, function
        assert server.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_that_fails_while_it_drains(number: int, tmp_path: Path) -> None:
    faults = {"entropyd_server.app:_pause": "RuntimeError"}
    with FaultyServer(faults, tmp_path / "faults", "--role", "coding") as server:
        server.fail().process.send_signal(number)
        assert server.process.wait(60) not in (0, None)


def test_a_second_signal_ends_a_server_whose_event_loop_is_held_up(
    outcomes: dict[str, Future[Outcome]],
) -> None:
    outcome = outcomes[HANGS].result()
    assert outcome.code == -signal.SIGALRM
    assert "in faulty" in outcome.log


def test_hang_up_reloads_files_and_ends_nothing(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ci code {'0' * 64}\n")
    with LocalServer("--role", "coding", "--tokens-file", str(tokens)) as server:
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP" in server.log_path.read_text(), "no word of SIGHUP")
        server.wait_until_serving()
        assert server.stop() == 0
