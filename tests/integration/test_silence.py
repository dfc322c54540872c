"""Connections that are forgotten on their way, to a real server: neither end goes on with one for ever."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.request import urlopen

import grpc
import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support import http2
from tests.support.load import free_ports
from tests.support.operations import status_page_of, until
from tests.support.stored_models import CHANNELS, put_model
from tests.support.tcp_gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

X = np.zeros((4, 5, CHANNELS), np.float32)
Begin: TypeAlias = "Callable[..., Future[entropyd.MeasuredTensor]]"


@pytest.fixture(scope="module")
def coding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[tuple[str, int], entropyd.ModelInfo]]:
    """The address of a server that codes, and its model."""
    store = tmp_path_factory.mktemp("store").as_uri()
    info = put_model(store)
    address = ("127.0.0.1", free_ports(1)[0])
    with LocalServer("--role", "coding", listen="{}:{}".format(*address), store=store):
        yield address, info


@contextmanager
def blocking(target: str, info: entropyd.ModelInfo) -> Iterator[Begin]:
    """A client's calls, which are begun by a function that takes their timeout_s."""
    with entropyd.Client(target) as client, ThreadPoolExecutor() as threads:
        model = entropyd.Model(client._session, info)
        yield lambda timeout_s: threads.submit(model.compress, X, timeout_s=timeout_s)


@contextmanager
def asynchronous(target: str, info: entropyd.ModelInfo) -> Iterator[Begin]:
    """As `blocking`, in an event loop of a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    client = entropyd.aio.Client(target)
    model = entropyd.aio.Model(client._session, info)
    yield lambda timeout_s: asyncio.run_coroutine_threadsafe(model.compress(X, timeout_s=timeout_s), loop)
    asyncio.run_coroutine_threadsafe(client.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


# More than gRPC sends before it answers the first call.
_GREETING_BYTES = 2048

both_clients = pytest.mark.parametrize("client", [blocking, asynchronous])


@both_clients
@pytest.mark.parametrize("addresses", [1, 2])
def test_a_connection_that_goes_silent_costs_one_call(
    coding: tuple[tuple[str, int], entropyd.ModelInfo],
    client: Callable[..., AbstractContextManager[Begin]],
    addresses: int,
) -> None:
    behind, info = coding
    with Gate(behind) as gate, Gate(behind) as other:
        gates = [gate, other][:addresses]
        target = "ipv4:" + ",".join("{}:{}".format(*one.address) for one in gates)
        with client(target, info) as begin:
            # A connection carries calls only some time after it was accepted, when both ends have greeted.
            while not all(one.answered_bytes > _GREETING_BYTES for one in gates):
                begin(60).result()
            gate.forget()
            errors = [begin(2).exception() for _ in range(6)]
    assert [type(error) for error in errors if error is not None] == [entropyd.DeadlineExceededError]
    assert errors.index(None) < addresses + 1


@both_clients
def test_calls_go_on_over_a_connection_that_was_taken_for_silent_and_the_next_is_not_replaced_soon(
    coding: tuple[tuple[str, int], entropyd.ModelInfo], client: Callable[..., AbstractContextManager[Begin]]
) -> None:
    behind, info = coding
    with Gate(behind) as gate:
        with client("{}:{}".format(*gate.address), info) as begin:
            begin(60).result()
            gate.stall()
            slow = begin(60)
            for _ in range(3):
                assert isinstance(begin(0.5).exception(), entropyd.DeadlineExceededError)
            assert gate.connections == 2
            gate.open()
            assert slow.result().lengths.size == len(X)
            del slow
            begin(60).result()
            until(lambda: gate.connections == 1, "the connection that was replaced stays open")


class Busy(grpc.GenericRpcHandler):
    """Answers health checks, and no other calls until it is done."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def service(self, details: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        def answer(*_: Any) -> bytes:
            if details.method != "/grpc.health.v1.Health/Check":
                self.done.wait(60)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@both_clients
def test_a_server_that_is_slow_keeps_its_connection(
    coding: tuple[tuple[str, int], entropyd.ModelInfo], client: Callable[..., AbstractContextManager[Begin]]
) -> None:
    _, info = coding
    busy = Busy()
    server = grpc.server(ThreadPoolExecutor(8), handlers=[busy])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Gate(("127.0.0.1", port)) as gate, client("{}:{}".format(*gate.address), info) as begin:
        for _ in range(2):
            assert isinstance(begin(2).exception(), entropyd.DeadlineExceededError)
        assert gate.connections == 1
    busy.done.set()
    server.stop(None)


def streaming(server: LocalServer) -> bool:
    """Whether the server has a stream in hand."""
    with urlopen(f"{status_page_of(server)}metrics", timeout=30) as answer:  # noqa: S310 - our own server
        return b"\nentropyd_inflight_requests 0.0\n" not in answer.read()


def asked(port: int, begin: threading.Event, answers: list[bytes]) -> None:
    """Asks a server, as seldom as our clients do or a little more often, whether it is there."""
    with http2.connect(("127.0.0.1", port)) as connection:
        begin.wait(60)
        for _ in range(5):  # gRPC ends a connection for the third question that comes too soon after another
            connection.sendall(http2.ping())
            time.sleep(5.5)
        answers.append(connection.recv(1 << 16))


def test_a_connection_that_is_forgotten_costs_no_call_and_no_place_and_one_that_asks_goes_on(
    tmp_path: Path,
) -> None:
    store = (tmp_path / "store").as_uri()
    info = put_model(store)
    port = free_ports(1)[0]
    flags = ["--role", "coding", "--metrics-listen", "127.0.0.1:0", "--receive-timeout-seconds", "3600"]
    messages: queue.SimpleQueue[coding_pb2.CompressStreamRequest | None] = queue.SimpleQueue()

    def sent() -> Iterator[coding_pb2.CompressStreamRequest]:
        yield from iter(messages.get, None)

    async def by_aio() -> None:
        async with entropyd.aio.Client(target) as client:
            model = entropyd.aio.Model(client._session, info)
            await model.compress(X)
            await asyncio.to_thread(ready.wait, 60)
            await asyncio.to_thread(forgotten.wait, 60)
            await model.compress(X)

    ready, forgotten = threading.Barrier(2), threading.Event()
    with (
        LocalServer(*flags, listen=f"127.0.0.1:{port}", store=store) as server,
        Gate(("127.0.0.1", port)) as gate,
    ):
        target = "{}:{}".format(*gate.address)
        failures: list[BaseException] = []

        def call_by_aio() -> None:
            try:
                asyncio.run(by_aio())
            except BaseException as error:  # noqa: BLE001 - for the test's own thread
                failures.append(error)

        calling = threading.Thread(target=call_by_aio)
        calling.start()
        answers: list[bytes] = []
        asking = threading.Thread(target=asked, args=(port, forgotten, answers))
        asking.start()
        # Somebody whose machine has vanished: what it holds must come back without its saying so.
        with entropyd.Client(target) as client, grpc.insecure_channel(target) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            stream = stub.CompressStream(sent())
            messages.put(coding_pb2.CompressStreamRequest(request_id="held"))
            assert next(stream).request_id == "held"
            model = entropyd.Model(client._session, info)
            model.compress(X)
            ready.wait(60)
            assert streaming(server)
            gate.forget()
            forgotten.set()
            model.compress(X)
            calling.join()
            assert not failures
            until(lambda: not streaming(server), "the place of a caller that vanished does not come back")
            messages.put(None)
            asking.join()
            assert http2.kinds(answers[0]).count("PING") >= 5
            assert "GOAWAY" not in http2.kinds(answers[0])
