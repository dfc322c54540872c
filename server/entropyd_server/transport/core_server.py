"""A server on gRPC's core, for a third of the cost of grpc.aio's.

A thread reads the core's completion queue. Invariants: a call starts on that thread, in a turn of the event
loop; one that need not wait for anything ends there too. If a servicer fails or memory runs out, the call
ends and the thread goes on, or the process ends.

grpc.aio wakes the event loop's thread through a socket for each event of a call. The echo of a small call
costs 131 us of the server's processor time there, and 37 us here (docs/notes/transport.md).

Source: grpc/_server.py and grpc/_cython/_cygrpc/aio/server.pyx.pxi of grpcio 1.85 for the order of a call's
operations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any
from weakref import ref

import grpc
from grpc._cython import cygrpc

from entropyd.contract.errors import CancelledError, EntropydError, UnimplementedError
from entropyd_server.transport.core_call import CoreCall
from entropyd_server.transport.core_stream import Stream
from entropyd_server.transport.method import Method
from entropyd_server.transport.polling import keep_undecodable_text_out_of_the_log
from entropyd_server.transport.server import Server, bound
from entropyd_server.transport.turns import current_loop
from entropyd_server.vital import Vital

log = logging.getLogger(__name__)

# Calls that gRPC may hand over before it is asked for more.
_WANTED_CALLS = 64
# Most events of one turn.
_MOST_EVENTS = 64
# The name of every call's task; to make one for each takes time.
_TASK = "call"
# A deadline in the past.
_NO_WAIT = 0.0


class CoreServer(Server):
    """Serves on a `TurnLoop`.

    Args:
      options: gRPC's channel arguments.
      vital: Ends the process if the thread fails; without one, that is only logged.

    Raises:
      TypeError: If the running loop is not a TurnLoop.
    """

    def __init__(self, options: Sequence[tuple[str, int]] = (), vital: Vital | None = None) -> None:
        super().__init__()
        self._loop = current_loop()
        self._queue = cygrpc.CompletionQueue()
        arguments = tuple((name.encode(), value) for name, value in options)
        self._core = cygrpc.Server(arguments, False)  # noqa: FBT003 - xDS, by position only
        self._core.register_completion_queue(self._queue)
        keep_undecodable_text_out_of_the_log()
        self._thread = (vital or Vital(lambda: None)).thread("transport", self._serve)
        self._stopping = False
        self._stopped = asyncio.Event()
        # The callbacks of requested calls; see CoreCall.
        self._wanted: list[ref[Any]] = []
        # Calls whose tasks began in this turn.
        self._begun: list[tuple[CoreCall, asyncio.Task[None]]] = []

    def add_insecure_port(self, address: str) -> int:
        return bound(address, self._core.add_http2_port(address.encode()))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        of_core: Any = credentials
        return bound(address, self._core.add_http2_port(address.encode(), of_core._credentials))  # noqa: SLF001

    async def start(self) -> None:
        self._core.start()
        self._want_calls()
        self._thread.start()

    async def stop(self, patience: Coroutine[Any, Any, object]) -> None:
        self._stopping = True
        self._core.shutdown(self._queue, self._shut_down)
        waiting = asyncio.create_task(patience)
        waiting.add_done_callback(lambda _: None if self._stopped.is_set() else self._core.cancel_all_calls())
        await self._stopped.wait()
        waiting.cancel()
        await self._wait_for_calls()  # an operation on a queue that is shut down would end the process
        self._core.destroy()

    async def close(self) -> None:
        """Ends the thread; until then it takes turns."""
        self._queue.shutdown()
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        """Handles events until the queue is shut down, all that are there in one turn.

        The tasks that they make ready run at the end of the turn, in a row: the processor's caches are warm.
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
                        except Exception as error:  # noqa: BLE001 - it concerns one call alone
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
            if isinstance(call, CoreCall):
                call.end_if_lost()
        if not self._stopping:
            self._want_calls()

    def _shut_down(self, event: Any) -> None:  # noqa: ARG002 - gRPC passes it
        self._stopped.set()

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
        call = CoreCall(event)
        self.calls.add(call)
        call.add_done_callback(self._ended)
        try:
            self._open(call)
        except EntropydError as error:
            call.end(None, error)
        except Exception as error:  # noqa: BLE001 - it concerns this call alone
            call.broke(error)

    def _open(self, call: CoreCall) -> None:
        method = self._methods.get(call.method)
        if method is None:
            self.refuse_unknown(call)
            return
        method.open(call)
        if method.request_streaming:
            self._begin(method, call)
        else:
            call.receive(partial(self._received, method, call))

    def _received(self, method: Method, call: CoreCall, message: bytes | None) -> None:
        if message is None:
            call.end(None, UnimplementedError(f"{call.method} takes one message"))
        else:
            self._begin(method, call, message)

    def _begin(self, method: Method, call: CoreCall, message: bytes = b"") -> None:
        task = asyncio.Task(_answer(method, call, message), loop=self._loop, name=_TASK)
        call.leave = task.cancel
        self._begun.append((call, task))

    def _watch_begun(self) -> None:
        """Cancels tasks if their callers leave, after the first step, in which most calls are answered."""
        for call, task in self._begun:
            if not task.done():
                try:
                    call.watch()
                except MemoryError as error:
                    call.broke(error)
        self._begun.clear()


async def _answer(method: Method, call: CoreCall, message: bytes) -> None:
    """Ends a call with the response to its message (if its request is no stream), or with an error."""
    try:
        if method.request_streaming or method.response_streaming:
            stream = Stream(call, method.parse, method.render)
            call.write = stream.write
            try:
                response = await method.handle(stream if method.request_streaming else message, call)
            finally:
                await stream.flush()  # sends the messages before the end, good or bad
        else:
            response = await method.handle(message, call)
    except EntropydError as error:
        call.end(None, error)
    except asyncio.CancelledError:
        call.end(None, CancelledError("the call was cancelled"))
        raise
    except Exception as error:  # noqa: BLE001 - it concerns this call alone
        call.leave = None
        call.broke(error)
    else:
        call.end(response)
