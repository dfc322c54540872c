"""A server of asynchronous servicers, as grpc.aio's is, for a third of its cost.

A thread reads the completion queue of gRPC's core. Invariants: a call begins in the thread that reads it, in
a turn of the event loop's; one that need not wait for anything ends there too; whatever a servicer does or
memory is missing for, its call ends and the thread goes on, or the process does not.

grpc.aio wakes the event loop's thread through a socket for each event of a call. An echo of a small call
costs 131 us of the server's processor time there, where 37 do (docs/adr/0010-transport.md).

Source: grpc/_server.py and grpc/_cython/_cygrpc/aio/server.pyx.pxi of grpcio 1.85 for the order of a call's
operations.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from grpc._cython import cygrpc

from entropyd_server.transport.call import Call
from entropyd_server.transport.stream import Stream
from entropyd_server.transport.tag import Tag
from entropyd_server.transport.turns import current_loop
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    Handler = Any  # grpc.RpcMethodHandler, whose types lack its fields

    class Service(Protocol):
        """A grpc.GenericRpcHandler, or what finds handlers as one does."""

        def service(self, call: Any, /) -> Handler | None:
            """The handler for a call, by its `method`; None where it has none. May abort the call."""


log = logging.getLogger(__name__)

# Options of servers whose callers may vanish without a word. A connection that has been silent for 10 s is
# asked for an answer and dropped, with its calls, if none comes within 8 s; callers may ask as often.
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    # Both: the first alone ends nothing in gRPC 1.85, where the second is 60 s by default.
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.ping_timeout_ms", 8_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Of a caller that asks more often, the connection is ended; by default, every 5 minutes is too often.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
# Calls that gRPC may hand over without being asked again.
_WANTED_CALLS = 64
# Events of a turn, at the most.
_MOST_EVENTS = 64
# A time that has passed.
_NO_WAIT = 0.0


class Server:
    """Serves what `grpc.aio.Server` does, to one `TurnLoop`.

    Attributes:
      calls: The calls that have begun and not ended.
      lost: See `Tag`.

    Args:
      options: gRPC's channel arguments.
      vital: Is told if the thread cannot go on; without one, the log is.

    Raises:
      TypeError: If the running loop is not a TurnLoop.
    """

    def __init__(self, options: Sequence[tuple[str, int]] = (), vital: Vital | None = None) -> None:
        self._loop = current_loop()
        self._services: list[Service] = []
        self._queue = cygrpc.CompletionQueue()
        arguments = tuple((name.encode(), value) for name, value in options)
        self._core = cygrpc.Server(arguments, False)  # noqa: FBT003 - xDS, by position only
        self._core.register_completion_queue(self._queue)
        # gRPC logs a traceback with the value of metadata that are not UTF-8, for each that a stranger sends.
        logging.getLogger(cygrpc.__name__).addFilter(_is_no_decoding_error)
        self._thread = (vital or Vital(_nothing)).thread("transport", self._serve)
        self._stopping = False
        self.lost: list[Tag] = []
        self.calls: set[Call] = set()
        self._all_ended = asyncio.Event()

    def add_generic_rpc_handlers(self, handlers: Sequence[Service]) -> None:
        """Adds services, which are asked for a handler in the order in which they were added."""
        self._services += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Newer stubs add their handlers this way too; the generic ones will do."""

    def add_insecure_port(self, address: str) -> int:
        """Binds an address.

        Returns:
          The port.

        Raises:
          RuntimeError: If it cannot be bound.
        """
        return self._bound(address, self._core.add_http2_port(address.encode()))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Binds an address with TLS; see `add_insecure_port`."""
        of_core: Any = credentials
        return self._bound(address, self._core.add_http2_port(address.encode(), of_core._credentials))  # noqa: SLF001

    async def start(self) -> None:
        """Begins to serve."""
        self._core.start()
        for _ in range(_WANTED_CALLS):
            self._want_call()
        self._thread.start()

    async def stop(self, patience: Coroutine[Any, Any, object]) -> None:
        """Takes no more calls, and waits for those in hand; cancels them when `patience` comes to its end."""
        stopped = asyncio.Event()
        self._stopping = True
        self._core.shutdown(self._queue, lambda _: stopped.set())
        waiting = asyncio.create_task(patience)
        waiting.add_done_callback(lambda _: None if stopped.is_set() else self._core.cancel_all_calls())
        await stopped.wait()
        waiting.cancel()
        # An operation on a queue that is shut down ends the process.
        while self.calls:
            self._all_ended.clear()
            await self._all_ended.wait()
        self._core.destroy()

    async def close(self) -> None:
        """Ends the thread of a server that was stopped; until then it takes its turns."""
        self._queue.shutdown()
        await asyncio.to_thread(self._thread.join)

    @staticmethod
    def _bound(address: str, port: int) -> int:
        if not port:
            raise RuntimeError(f"cannot bind {address}")
        return port

    def _serve(self) -> None:
        """Deals with events until the queue is shut down, in one turn with all that wait.

        What they make ready goes on at the end of the turn: calls are answered in a row, for which the
        processor's caches are warm by then.
        """
        kinds = cygrpc.CompletionType
        event = self._wait()
        while event is None or event.completion_type != kinds.queue_shutdown:
            with self._loop.turn:
                for _ in range(_MOST_EVENTS):
                    if event is not None:
                        event.tag(event)
                    if self.lost:
                        self._end_lost()
                    try:
                        event = self._queue.poll(_NO_WAIT)
                    except MemoryError:
                        event = None
                        continue
                    if event.completion_type != kinds.operation_complete:
                        break
            if event is not None and event.completion_type == kinds.queue_timeout:
                event = None  # while it is waited for the next one, nothing may keep a call
                event = self._wait()

    def _wait(self) -> Any:
        """The next event, once there is one; None if memory did not suffice to read it."""
        try:
            return self._queue.poll()
        except MemoryError:
            return None

    def _end_lost(self) -> None:
        """Ends the calls whose events were lost."""
        while self.lost:
            self.lost.pop().lose()

    def _want_call(self) -> None:
        self._core.request_call(self._queue, self._queue, Tag(self, Server._called))

    def failed(self, _: object, error: BaseException) -> None:
        """See `Tag`: goes on after a call that could not even be looked at; gRPC cancels it."""
        log.error("a call was lost", exc_info=error)
        if not self._stopping:
            self._want_call()

    def _called(self, event: Any) -> None:
        if not event.success:
            return  # the server stops
        call = Call(event, self.lost)
        if not self._stopping:
            self._want_call()
        self.calls.add(call)
        call.add_done_callback(self._ended)
        try:
            self._look_up(call)
        except grpc.aio.AbortError as error:
            call.fail(call.code(), str(error))
        except Exception as error:  # noqa: BLE001 - it is this call's alone
            call.broke(error)

    def _look_up(self, call: Call) -> None:
        handler = self._handler(call)
        if handler is None:
            call.fail(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {call.method}")
        elif handler.request_streaming:
            self._begin(handler, call)
        else:
            call.receive(partial(self._received, handler, call))

    def _ended(self, call: Call) -> None:
        self.calls.discard(call)
        if not self.calls:
            self._all_ended.set()

    def _handler(self, call: Call) -> Handler | None:
        for service in self._services:
            if (handler := service.service(call)) is not None:
                return handler
        return None

    def _received(self, handler: Handler, call: Call, message: bytes | None) -> None:
        if message is None:
            call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{call.method} takes one message")
        else:
            self._begin(handler, call, message)

    def _begin(self, handler: Handler, call: Call, message: bytes = b"") -> None:
        task = self._loop.create_task(_answer(handler, call, message))
        call.leave = task.cancel
        self._loop.call_soon(_watch, call, task)


def _watch(call: Call, task: asyncio.Task[None]) -> None:
    """Ends the task of a call whose caller leaves; after its first step, in which most calls are answered."""
    if not task.done():
        call.watch()


def _is_no_decoding_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError))


def _nothing() -> None:
    pass


async def _answer(handler: Handler, call: Call, message: bytes) -> None:
    """Ends a call with what its servicer says, or with its error.

    Args:
      handler: A grpc.RpcMethodHandler.
      call: What is to be answered.
      message: The only one, where the caller does not stream.
    """
    # Without a function of its own, a handler reads or writes bytes.
    parse, render = handler.request_deserializer or bytes, handler.response_serializer or bytes
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    answer = None
    try:
        if handler.request_streaming or handler.response_streaming:
            stream = Stream(call, parse, render)
            call.write = stream.write
        request = stream if handler.request_streaming else parse(message)
        if handler.response_streaming:
            try:
                await behaviour(request, call)
            finally:
                await stream.flush()  # what was answered comes before the end, good or bad
        else:
            answer = render(await behaviour(request, call))
    except grpc.aio.AbortError as error:
        call.fail(call.code(), str(error))
    except asyncio.CancelledError:
        call.fail(grpc.StatusCode.CANCELLED, "the call was cancelled")
        raise
    except Exception as error:  # noqa: BLE001 - it is this call's alone
        call.leave = None
        call.broke(error)
    else:
        call.finish(answer)
