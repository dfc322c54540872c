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
from weakref import ref

import grpc
from grpc._cython import cygrpc

from entropyd_server.transport.call import Call
from entropyd_server.transport.stream import Stream
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
# The name of every call's task: to make one of its own for each takes time.
_TASK = "call"
# A time that has passed.
_NO_WAIT = 0.0


class Server:
    """Serves what `grpc.aio.Server` does, to one `TurnLoop`.

    Attributes:
      calls: The calls that have begun and not ended.

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
        # The callbacks of requested calls, which only gRPC keeps, as those of a call (see Call).
        self._wanted: list[ref[Any]] = []
        # Calls whose tasks began in this turn.
        self._begun: list[tuple[Call, asyncio.Task[None]]] = []
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
        self._want_calls()
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
        """Handles events until the queue is shut down; all that are there in one turn.

        The tasks that they make ready run at the end of the turn: calls are answered in a row, while the
        processor's caches are warm.
        """
        kinds = cygrpc.CompletionType
        event = self._next(None)
        while event is None or event.completion_type != kinds.queue_shutdown:
            with self._loop.turn:
                for _ in range(_MOST_EVENTS):
                    if event is None:
                        self._end_lost()
                    else:
                        try:
                            event.tag(event)
                        except Exception as error:  # noqa: BLE001 - others' events are still to be read
                            self._fail(event.tag, error)
                            event = None
                            continue
                    event = self._next(_NO_WAIT)
                    if event is not None and event.completion_type != kinds.operation_complete:
                        break
                self._loop.run_ready()
                self._watch_begun()
            if event is not None and event.completion_type == kinds.queue_timeout:
                event = None  # nothing may keep a call while this thread waits
                event = self._next(None)

    def _next(self, deadline: float | None) -> Any:
        """The next event; None if there was not enough memory to read it."""
        try:
            return self._queue.poll(deadline)
        except MemoryError:
            return None

    def _fail(self, callback: Any, error: Exception) -> None:
        """Ends the call whose callback failed; gRPC cancels one that this server has not seen yet."""
        owner = callback.__self__
        if owner is self:
            log.error("a call was lost", exc_info=error)
        else:
            owner.broke(error)

    def _end_lost(self) -> None:
        """Ends the calls whose callbacks were dropped, and requests calls in the place of those lost."""
        for call in list(self.calls):
            call.end_if_lost()
        if not self._stopping:
            self._want_calls()

    def _want_calls(self) -> None:
        self._wanted = [wanted for wanted in self._wanted if wanted() is not None]
        while len(self._wanted) < _WANTED_CALLS:
            callback = self._called
            self._core.request_call(self._queue, self._queue, callback)
            self._wanted.append(ref(callback))

    def _called(self, event: Any) -> None:
        if not event.success:
            return  # the server stops
        if not self._stopping:
            self._core.request_call(self._queue, self._queue, event.tag)
        call = Call(event)
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
        task = asyncio.Task(_answer(handler, call, message), loop=self._loop, name=_TASK)
        call.leave = task.cancel
        self._begun.append((call, task))

    def _watch_begun(self) -> None:
        """Cancels tasks whose callers leave, from their second step on; most calls end in their first."""
        for call, task in self._begun:
            if not task.done():
                try:
                    call.watch()
                except MemoryError as error:
                    call.broke(error)
        self._begun.clear()


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
