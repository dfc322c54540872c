"""Laws of admission: what it refuses costs its headers, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from entropyd.contract.errors import OverloadedError
from entropyd_server.metrics import Metrics
from entropyd_server.observe.call_log import CallLog
from entropyd_server.rpc.interceptors import intercepted
from entropyd_server.rpc.interceptors.admission import Admission
from entropyd_server.rpc.interceptors.guard import Guard
from entropyd_server.rpc.interceptors.reporting import Reporting
from entropyd_server.security.access import METHOD_SCOPES, Access
from entropyd_server.transport.method import Method
from tests.support import http2
from tests.support.transports import new_server, run

if TYPE_CHECKING:
    from entropyd_server.transport.method import Handle
    from entropyd_server.transport.server import Server

pytestmark = pytest.mark.usefixtures("each_transport")

_BUSY, _IDLE = "/entropyd.v1.CodingService/Compress", "/entropyd.v1.InfoService/GetServerInfo"
assert {_BUSY, _IDLE} <= METHOD_SCOPES.keys()


_BOTH = (_BUSY, f"{_BUSY}Stream", _IDLE)


async def answer(message: bytes, _: Any) -> bytes:
    return message


async def wait(message: bytes, _: Any) -> bytes:
    await asyncio.Event().wait()
    return message


def serve(metrics: Metrics, admission: Admission, handle: Handle = answer) -> Server:
    """A server of which all methods answer alike."""
    server = new_server()
    guards = [Reporting(metrics, CallLog()), Guard(Access(None).check, lambda _: None), admission]
    for path in _BOTH:
        _, service, name = path.split("/")
        server.add([intercepted(Method(service, name, handle), guards)])
    return server


def test_a_busy_method_is_refused_before_its_message_comes_while_others_are_answered() -> None:
    patience: list[float | None] = []

    def admit(timeout_s: float | None) -> None:
        patience.append(timeout_s)
        if len(patience) == 1:
            raise OverloadedError("too much", retry_after_s=0.25)

    async def main() -> None:
        metrics = Metrics("test")
        # One call at a time: one that is refused must not count as in flight.
        server = serve(metrics, Admission(1, {_BUSY: admit}, metrics.count_stalled))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            # Its message is never sent.
            unsent: Any = channel.stream_unary(_BUSY)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unsent(timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert dict(tuple(caught.value.trailing_metadata() or ()))["grpc-retry-pushback-ms"] == "250"
            idle: Any = channel.unary_unary(_IDLE)
            assert await idle(b"") == b""
            again: Any = channel.unary_unary(_BUSY)
            assert await again(b"") == b""
        assert metrics.methods["Compress"].calls_by_code["RESOURCE_EXHAUSTED"] == 1
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(main())
    first, second = patience
    assert first is not None
    assert 30 < first < 61
    assert second is None


def test_no_connection_has_more_than_its_share_and_places_come_back() -> None:
    async def main() -> None:
        metrics = Metrics("test")
        admission = Admission(4, {}, metrics.count_stalled)
        server = serve(metrics, admission, wait)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        refused = metrics.methods["Compress"].calls_by_code
        # As somebody who does not ask how many calls a connection may have.
        with http2.connect(("127.0.0.1", port)) as connection:
            connection.sendall(b"".join(http2.opening(number, _BUSY.encode()) for number in (1, 3, 5, 7, 9)))
            while refused["RESOURCE_EXHAUSTED"] < 2:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.001)
            while len(server.calls) > 3:  # noqa: ASYNC110 - a refused call may end a little later
                await asyncio.sleep(0.001)
            assert len(server.calls) == 3
            assert not admission.full
            with http2.connect(("127.0.0.1", port)) as other:
                other.sendall(http2.opening(1, _BUSY.encode()))
                while not admission.full:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        while admission.full or server.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert refused["RESOURCE_EXHAUSTED"] == 2
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("connections", [1, 2, 10])
def test_calls_without_messages_give_their_places_to_those_of_other_connections(
    connections: int, stream: bool
) -> None:
    places = 40
    path = f"{_BUSY}Stream" if stream else _BUSY

    async def main() -> None:
        metrics = Metrics("test")
        admission = Admission(places, {}, metrics.count_stalled)
        server = serve(metrics, admission)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with contextlib.ExitStack() as stack:
            for _ in range(connections):
                holding = stack.enter_context(http2.connect(("127.0.0.1", port)))
                holding.sendall(b"".join(http2.opening(2 * n + 1, path.encode()) for n in range(places)))
            refused = metrics.methods[path.rpartition("/")[2]].calls_by_code
            ended = places * connections - (places if connections > 1 else 35)
            while refused["RESOURCE_EXHAUSTED"] + metrics.shed["stalled"] < ended:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert admission.full == (connections > 1)
            evicted = metrics.shed["stalled"]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call: Any = channel.unary_unary(_IDLE)
                share = places // (connections + 1)
                assert await asyncio.gather(*(call(b"") for _ in range(share))) == [b""] * share
            assert metrics.shed["stalled"] > evicted or connections == 1
        while server.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert not admission.full
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(main())


def test_calls_without_messages_are_not_ended_for_those_of_a_connection_with_as_many() -> None:
    async def main() -> None:
        metrics = Metrics("test")
        admission = Admission(8, {}, metrics.count_stalled)
        server = serve(metrics, admission)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        address, refused = ("127.0.0.1", port), metrics.methods["Compress"].calls_by_code
        with http2.connect(address) as one, http2.connect(address) as other:
            one.sendall(b"".join(http2.opening(number, _BUSY.encode()) for number in range(1, 14, 2)))
            while len(server.calls) < 7:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            other.sendall(b"".join(http2.opening(number, _BUSY.encode()) for number in range(1, 14, 2)))
            while metrics.shed["stalled"] + refused["RESOURCE_EXHAUSTED"] < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            # One found a place, and three were given one: each connection has four.
            assert metrics.shed["stalled"] == refused["RESOURCE_EXHAUSTED"] == 3
            assert admission.full
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(main())


def test_metadata_that_are_no_text_are_refused_once_the_caller_is_known() -> None:
    async def main() -> None:
        metrics = Metrics("test")
        server = serve(metrics, Admission(4, {}, metrics.count_stalled))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        counted = metrics.methods["Compress"].calls_by_code
        with http2.connect(("127.0.0.1", port)) as connection:
            connection.sendall(http2.opening(1, _BUSY.encode(), (b"x-note", b"\xff")))
            while not counted["INVALID_ARGUMENT"]:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.001)
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(main())
