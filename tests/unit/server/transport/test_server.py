"""Laws of the transport: whatever a caller sends and a servicer does, its call ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc._cython import cygrpc

from entropyd.contract.errors import DataLossError, OverloadedError, UnauthenticatedError
from entropyd_server.transport.aio_server import AioServer
from entropyd_server.transport.method import Method
from entropyd_server.transport.stalls import Stalls
from entropyd_server.vital import Vital
from tests.support import http2
from tests.support.transports import new_server, run

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from entropyd_server.transport.call import Call
    from entropyd_server.transport.server import Server

# Of what grpc.aio does not do, the tests are for the core alone.
each = pytest.mark.usefixtures("each_transport")

_SERVICE = "test.Service"


class Servicer:
    """Does what a message says; remembers what became of it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left: list[str] = []
        self.threads: set[str] = set()
        self.remaining: list[float | None] = []

    async def one(self, message: bytes, context: Call) -> bytes:
        self.threads.add(threading.current_thread().name)
        self.remaining.append(context.time_remaining())
        if message == b"fail":
            raise RuntimeError("a secret")
        if message == b"exhaust":
            raise MemoryError
        if message == b"abort":
            raise DataLossError("gone \N{EM DASH} said so")
        if message.startswith(b"wait"):
            self.entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                if message == b"wait, then tidy up":
                    await asyncio.sleep(0.05)
                self.left.append("one")
        return message[::-1]

    async def read_one(self, message: bytes, context: Call) -> bytes:
        return await self.one(read(message), context)

    async def many(self, messages: AsyncIterator[bytes], context: Call) -> None:
        try:
            async for message in messages:
                await context.write(await self.one(message, context))
        finally:
            self.left.append("many")

    async def count(self, messages: AsyncIterator[bytes], context: Call) -> bytes:
        return str(len([message async for message in messages])).encode()

    async def spell(self, message: bytes, context: Call) -> None:
        for byte in message.removesuffix(b"..."):
            await context.write(bytes([byte]))
        if message.endswith(b"..."):
            await asyncio.Event().wait()

    async def share(self, messages: AsyncIterator[bytes], context: Call) -> None:
        async def take(name: bytes) -> None:
            async for message in messages:
                await asyncio.sleep(0)
                await context.write(name + message)

        await asyncio.gather(take(b"a"), take(b"b"))

    def methods(self) -> list[Method]:
        return [
            Method(_SERVICE, "One", self.read_one),
            Method(_SERVICE, "Many", self.many, request_streaming=True, response_streaming=True, parse=read),
            Method(_SERVICE, "Count", self.count, request_streaming=True),
            Method(_SERVICE, "Spell", self.spell, response_streaming=True),
            Method(_SERVICE, "Share", self.share, request_streaming=True, response_streaming=True),
            Method(_SERVICE, "Broken", self.one, fail_to_open),
            Method(_SERVICE, "Refused", self.one, refuse),
        ]


def fail_to_open(_: Call) -> None:
    raise RuntimeError("a secret")


def refuse(_: Call) -> None:
    raise OverloadedError("not now", retry_after_s=0.25)


def read(message: bytes) -> bytes:
    if message == b"unreadable":
        raise ValueError("a secret")
    return message


class Client:
    """Calls the methods of the service on a connection of its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.one: Any = channel.unary_unary(f"/{_SERVICE}/One")
        self.many: Any = channel.stream_stream(f"/{_SERVICE}/Many")
        self.count: Any = channel.stream_unary(f"/{_SERVICE}/Count")
        self.spell: Any = channel.unary_stream(f"/{_SERVICE}/Spell")
        self.share: Any = channel.stream_stream(f"/{_SERVICE}/Share")
        self.none: Any = channel.unary_unary(f"/{_SERVICE}/None")
        self.broken: Any = channel.unary_unary(f"/{_SERVICE}/Broken")
        self.refused: Any = channel.unary_unary(f"/{_SERVICE}/Refused")
        self.refused_as_stream: Any = channel.stream_unary(f"/{_SERVICE}/Refused")
        self.one_as_stream: Any = channel.stream_unary(f"/{_SERVICE}/One")


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, Servicer, Client]]:
    """A server in this process; the test stops it, or it is stopped."""
    server, servicer = new_server(), Servicer()
    server.add(servicer.methods())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, servicer, Client(channel)


@asynccontextmanager
async def raw(server: Server, *, takes_answers: bool = True) -> AsyncIterator[socket.socket]:
    """A connection to a server, for frames that gRPC's clients do not send."""
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = http2.connect(("127.0.0.1", port), takes_answers=takes_answers)
    with connection:
        yield connection
    await server.stop(asyncio.sleep(0))
    await server.close()


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@each
def test_each_kind_of_method_is_answered() -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            assert await client.one(b"abc") == b"cba"
            assert await client.one(b"") == b""
            assert await client.count(iter([b"a", b"b", b"c"])) == b"3"
            assert await client.count(iter([])) == b"0"
            assert [byte async for byte in client.spell(b"abc")] == [b"a", b"b", b"c"]
            assert [byte async for byte in client.spell(b"")] == []
            assert [word async for word in client.many(iter([b"ab", b"", b"cd"]))] == [b"ba", b"", b"dc"]
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


# gRPC buffers 64 KiB of a stream before it writes them without being asked.
@each
@pytest.mark.parametrize("length", [0, 1000, 1 << 15, 1 << 16, 1 << 18])
def test_messages_that_come_together_are_all_answered_in_order(length: int) -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            for count in [*range(1, 20), 100]:
                words = [str(number).encode() + bytes(length) for number in range(count)]
                assert [word async for word in client.many(iter(words))] == [word[::-1] for word in words]
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
@pytest.mark.parametrize("word", [b"a", b"ab", b"abcde"])
def test_answers_do_not_wait_for_what_may_follow(word: bytes) -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            call = client.spell(word + b"...")
            for byte in word:
                assert await asyncio.wait_for(call.read(), 30) == bytes([byte])
            call.cancel()
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_tasks_that_share_a_stream_take_each_message_once_and_all_see_its_end() -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            words = [str(number).encode() for number in range(100)]
            answers = [word async for word in client.share(iter(words))]
            assert sorted(word[1:] for word in answers) == sorted(words)
            assert {word[:1] for word in answers} == {b"a", b"b"}
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


def test_what_need_not_wait_is_answered_where_it_is_read() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            answers = await asyncio.gather(*(client.one(str(i).encode()) for i in range(100)))
            assert answers == [str(i).encode()[::-1] for i in range(100)]
            assert servicer.threads == {"transport"}
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
@pytest.mark.parametrize(
    ("method", "message", "code", "details"),
    [
        ("none", b"", grpc.StatusCode.UNIMPLEMENTED, "there is no method /test.Service/None"),
        ("broken", b"", grpc.StatusCode.INTERNAL, "internal error"),
        ("one", b"fail", grpc.StatusCode.INTERNAL, "internal error"),
        ("one", b"unreadable", grpc.StatusCode.INTERNAL, "internal error"),
        ("refused", b"abort", grpc.StatusCode.RESOURCE_EXHAUSTED, "not now"),
        ("one", b"abort", grpc.StatusCode.DATA_LOSS, "gone \N{EM DASH} said so"),
    ],
)
def test_a_call_that_fails_says_so_and_no_more(
    method: str, message: bytes, code: grpc.StatusCode, details: str
) -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            error = await failure(getattr(client, method)(message))
            assert (error.code(), error.details()) == (code, details)
            trailing = dict(tuple(error.trailing_metadata() or ()))
            assert trailing.get("grpc-retry-pushback-ms") == ("250" if method == "refused" else None)
            assert await client.one(b"abc") == b"cba"
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_call_without_its_message_is_refused() -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            error = await failure(client.one_as_stream(iter([])))
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED
            assert error.details() == "/test.Service/One takes one message"
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_call_can_be_refused_before_its_message_comes() -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            error = await failure(client.refused_as_stream())
            assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_stream_that_fails_ends_with_its_error_after_what_was_answered() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            call = client.many(iter([b"ab", b"fail", b"cd"]))
            assert await call.read() == b"ba"
            assert (await failure(call.read())).code() == grpc.StatusCode.INTERNAL
            assert servicer.left == ["many"]
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_servicer_hears_that_its_caller_left() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            waiting = client.one(b"wait")
            await servicer.entered.wait()
            waiting.cancel()
            servicer.entered.clear()
            stream = client.many(iter([b"wait"]))
            reading = asyncio.ensure_future(failure(stream.read()))
            await servicer.entered.wait()
            stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            while len(servicer.left) < 3:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.001)
            assert sorted(servicer.left) == ["many", "one", "one"]
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_servicer_knows_how_long_its_caller_will_wait() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            await client.one(b"")
            await client.one(b"", timeout=60)
            assert (await failure(client.one(b"wait", timeout=0.05))).code().name == "DEADLINE_EXCEEDED"
            never, minute, soon = servicer.remaining
            assert never is None
            assert minute is not None
            assert 30 < minute < 61  # on its way, gRPC rounds it up
            assert soon is not None
            assert soon < 1
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_server_that_stops_waits_for_its_calls_and_then_cancels_them() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            waiting = [asyncio.ensure_future(failure(client.one(b"wait, then tidy up"))) for _ in range(3)]
            while len(servicer.remaining) < 3:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.001)
            await server.stop(asyncio.sleep(0.2))
            await server.close()
            assert servicer.left == ["one"] * 3
            codes = {error.code().name for error in await asyncio.gather(*waiting)}
            assert codes <= {"CANCELLED", "UNAVAILABLE"}

    run(main())


@each
def test_a_server_that_stops_answers_what_it_has() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            stream = client.many()
            await stream.write(b"ab")
            assert await stream.read() == b"ba"
            stopping = asyncio.create_task(server.stop(asyncio.sleep(60)))
            await asyncio.sleep(0.05)
            await stream.write(b"cd")
            assert await stream.read() == b"dc"
            await stream.done_writing()
            assert await stream.read() == grpc.aio.EOF
            await stopping
            await server.close()
            assert servicer.left == ["many"]

    run(main())


@each
def test_an_address_that_is_taken_is_said_so() -> None:
    async def main() -> None:
        options = [("grpc.so_reuseport", 0)]
        first, second = new_server(options), new_server(options)
        port = first.add_insecure_port("127.0.0.1:0")
        with pytest.raises(RuntimeError):
            second.add_insecure_port(f"127.0.0.1:{port}")
        await first.start()
        await first.stop(asyncio.sleep(0))
        await first.close()

    run(main())


class Forgetful(cygrpc.CompletionQueue):  # type: ignore[misc]  # carries no types
    """A queue that has no memory left for an event here and there; gRPC drops what it cannot read."""

    def __init__(self) -> None:
        self.events = 0
        self.lost: set[int] = set()

    def poll(self, deadline: float | None = None) -> Any:
        event = super().poll(deadline)
        if event.completion_type == cygrpc.CompletionType.operation_complete:
            self.events += 1
            if self.events in self.lost:
                raise MemoryError
        return event


@pytest.mark.parametrize("lost", range(1, 9))
def test_a_call_whose_event_cannot_be_read_ends_and_the_others_go_on(
    lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cygrpc, "CompletionQueue", Forgetful)

    async def main() -> None:
        async with serving() as (server, _, client):
            queue: Any = vars(server)["_queue"]
            await client.one(b"abc")
            queue.lost = {queue.events + lost}
            for _ in range(3):
                for call in (client.one(b"abc"), client.count(iter([b"a", b"b"]))):
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await call
                with contextlib.suppress(grpc.aio.AioRpcError):
                    assert [word async for word in client.many(iter([b"ab", b"cd"]))] == [b"ba", b"dc"]
            assert queue.events > max(queue.lost)
            assert await client.one(b"abc") == b"cba"
            # However an event was lost, no call is kept for ever: else this would wait for it.
            await server.stop(asyncio.sleep(60))
            await server.close()
            assert not server.calls

    run(main())


def test_more_calls_can_be_lost_than_are_wanted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cygrpc, "CompletionQueue", Forgetful)

    async def main() -> None:
        async with serving() as (server, _, client):
            queue: Any = vars(server)["_queue"]
            for _ in range(100):
                queue.lost = {queue.events + 1}
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await client.one(b"abc")
            assert await client.one(b"abc") == b"cba"
            await server.stop(asyncio.sleep(60))
            await server.close()

    run(main())


@each
def test_memory_that_a_servicer_lacks_is_said_so() -> None:
    async def main() -> None:
        async with serving() as (server, _, client):
            error = await failure(client.one(b"exhaust"))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details() == "the server is out of memory"
            assert await client.one(b"abc") == b"cba"
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_caller_that_owes_its_message_is_not_waited_for() -> None:
    async def main() -> None:
        async with serving() as (server, servicer, client):
            ended: list[None] = []
            crowded = False
            stalls = Stalls(0.2, lambda: ended.append(None))
            watching = asyncio.create_task(stalls.watch(server.calls, lambda: crowded))
            resting, working = client.many(), asyncio.ensure_future(client.one(b"wait"))
            await resting.write(b"ab")
            assert await resting.read() == b"ba"
            for owing in (client.one_as_stream(), client.many().read()):
                assert (await failure(owing)).code() == grpc.StatusCode.DEADLINE_EXCEEDED
            # Neither a stream between two messages nor what the server itself takes long for is ended.
            assert len(ended) == 2
            await resting.write(b"cd")
            assert await resting.read() == b"dc"
            crowded = True
            assert (await failure(resting.read())).code() == grpc.StatusCode.UNAVAILABLE
            while len(servicer.left) < 2:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.001)
            assert servicer.left == ["many"] * 2
            assert not working.done()
            working.cancel()
            watching.cancel()
            await server.stop(asyncio.sleep(0))
            await server.close()

    run(main())


@each
def test_a_caller_that_does_not_take_its_answer_is_not_waited_for() -> None:
    async def main() -> None:
        server, servicer = new_server(), Servicer()
        server.add(servicer.methods())
        ended = asyncio.Event()
        watching = asyncio.create_task(Stalls(0.2, ended.set).watch(server.calls, lambda: False))
        async with raw(server, takes_answers=False) as connection:
            connection.sendall(http2.opening(1, b"/test.Service/One") + http2.message(1, b"abc"))
            await ended.wait()
            while server.calls:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.001)
        watching.cancel()

    run(main())


def test_whatever_bytes_a_call_begins_with_nothing_of_them_is_logged(
    each_transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    # grpc.aio stops serving at a path that is not UTF-8.
    count = 4 if each_transport == "core" else 3
    called: list[tuple[str, bool]] = []
    all_called = asyncio.Event()

    def refuse_all(call: Call) -> None:
        called.append((call.method, call.malformed))
        if len(called) == count:
            all_called.set()
        raise UnauthenticatedError("no")

    async def main() -> None:
        server = new_server()
        server.refuse_unknown = refuse_all
        async with raw(server) as connection:
            path = b"/test.Service/One"
            connection.sendall(http2.opening(1, path, (b"x-note", b"SECRET")))
            connection.sendall(http2.opening(3, path, (b"x-note", b"SECRET\xff")))
            connection.sendall(http2.opening(5, path, (b"x-note-bin", b"/w==")))
            if count == 4:
                connection.sendall(http2.opening(7, path + b"SECRET\xff"))
            await all_called.wait()

    run(main())
    known = "/test.Service/One"
    assert called == [(known, False), (known, True), (known, False), ("?", False)][:count]
    assert not caplog.records


def test_grpc_aio_serves_after_a_path_that_is_not_utf_8_or_the_process_ends() -> None:
    # It stops in grpcio 1.85 and goes on in 1.62.
    async def main() -> None:
        ended_or_served = asyncio.Event()

        def refuse(call: Call) -> None:
            if call.method == "/test.Service/Two":
                ended_or_served.set()
            raise UnauthenticatedError("no")

        server = AioServer((), Vital(ended_or_served.set))
        server.refuse_unknown = refuse
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with http2.connect(("127.0.0.1", port)) as connection:
            connection.sendall(http2.opening(1, b"/test.Service/One\xff"))
            connection.sendall(http2.opening(3, b"/test.Service/Two"))
            await ended_or_served.wait()
        await server.stop(asyncio.sleep(0))

    asyncio.run(main())
