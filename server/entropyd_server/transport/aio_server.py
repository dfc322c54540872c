"""A server on grpc.aio's public interface, for versions of grpcio on which `core_server` was not tested.

It serves the same methods with the same interceptors. To refuse calls before their messages are received, it
answers every method as a stream: on the wire, methods of all kinds look the same.

It differs from `core_server` in this:

- A small call costs three to four times the processor time.
- grpc.aio 1.85 stops serving when a caller sends a path that is not UTF-8, and then the process ends. A proxy
  in front of the server keeps such paths away.
- Whether a caller takes the status of a call that failed is not seen, so such calls are not ended as stalled.
- If memory runs out while grpc.aio reads an event, the call may stay open until its caller leaves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc

from entropyd.contract.errors import EntropydError, UnimplementedError
from entropyd_server.transport.call import Call
from entropyd_server.transport.polling import keep_undecodable_text_out_of_the_log
from entropyd_server.transport.server import Server, bound
from entropyd_server.transport.status import status_of
from entropyd_server.vital import Vital

# Longer than any grace that `stop` gives.
_FOREVER_S = 1e6


class AioServer(Server, grpc.GenericRpcHandler):
    """Serves on any event loop.

    Args:
      options: gRPC's channel arguments.
      vital: Ends the process if grpc.aio stops serving; without one, that is only logged.
    """

    def __init__(self, options: Sequence[tuple[str, int]] = (), vital: Vital | None = None) -> None:
        super().__init__()
        self._vital = vital or Vital(lambda: None)
        self._server = grpc.aio.server(options=tuple(options))
        self._server.add_generic_rpc_handlers((self,))
        self._stopping = False
        keep_undecodable_text_out_of_the_log()

    def add_insecure_port(self, address: str) -> int:
        return bound(address, self._server.add_insecure_port(address))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        return bound(address, self._server.add_secure_port(address, credentials))

    async def start(self) -> None:
        before = asyncio.all_tasks()
        await self._server.start()
        self._terminated = asyncio.ensure_future(self._server.wait_for_termination())
        self._terminated.add_done_callback(self._check_end)
        for task in asyncio.all_tasks() - before:
            # If this one fails, nothing is served any more, and the other ends with the last connection only.
            if getattr(task.get_coro(), "__qualname__", "").endswith("_server_main_loop"):
                task.add_done_callback(self._check_end)

    def _check_end(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._stopping:  # in grpcio 1.62, the loop may fail when it is stopped
            # Not the error itself, which may hold a path that a stranger sent.
            self._vital.fail("grpc.aio", RuntimeError(f"it stopped serving: {type(error).__name__}"))

    async def stop(self, patience: Coroutine[Any, Any, object]) -> None:
        self._stopping = True
        waiting = asyncio.ensure_future(patience)
        stopping = asyncio.ensure_future(self._server.stop(_FOREVER_S))
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await self._server.stop(None)  # cancels what is left
        await stopping
        await asyncio.wait((self._terminated,))
        await self._wait_for_calls()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a call, whatever its method."""

        async def handle(_: object, context: Any) -> None:
            await self._serve(AioCall(details.method, context))

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _serve(self, call: AioCall) -> None:
        self.calls.add(call)
        call.add_done_callback(self._ended)
        work: asyncio.Future[None] | None = None
        try:
            # A task of its own, because grpc.aio does not let a handler that was cancelled set a status.
            work = asyncio.ensure_future(self._answer(call))
            call.leave = work.cancel
            await work
        except EntropydError as error:
            call.end_with(error)
        except grpc.aio.BaseError:
            pass  # the caller has left: nothing can be received or sent
        except asyncio.CancelledError:
            if call.error is None:
                raise
        except Exception as error:  # noqa: BLE001 - it concerns this call alone
            call.broke(error)
        finally:
            call.leave = None
            work = None  # its error refers to this frame
            call.ended()
        await call.send_error()

    async def _answer(self, call: AioCall) -> None:
        method = self._methods.get(call.method)
        if method is None:
            self.refuse_unknown(call)
            return
        method.open(call)
        call.parse, call.render = method.parse, method.render
        if method.response_streaming:
            call.write = call.send
        request = call if method.request_streaming else await call.receive()
        if request is None:
            raise UnimplementedError(f"{call.method} takes one message")
        response = await method.handle(request, call)
        if response is not None:
            await call.send_last(response)


class AioCall(Call):
    """A call on grpc.aio; iterates over the messages of a request stream, each for one of several tasks.

    Attributes:
      error: What the call ends with; None while it goes on, or if it ends well.
    """

    __slots__ = ("_context", "_reading", "_writing", "error", "parse", "render")

    parse: Callable[[bytes], Any]
    render: Callable[[Any], bytes]

    def __init__(self, method: str, context: Any) -> None:
        remaining = context.time_remaining()
        deadline = float("inf") if remaining is None else time.time() + remaining
        # gRPC reads a path that is not UTF-8 as Latin-1.
        path = method if method.isascii() else "?"
        super().__init__(path, context.peer().encode(), context.invocation_metadata() or (), deadline)
        self._context = context
        self._reading, self._writing = asyncio.Lock(), asyncio.Lock()
        self.error: EntropydError | None = None

    def __aiter__(self) -> AioCall:
        return self

    async def __anext__(self) -> Any:
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return self.parse(message)

    async def receive(self) -> bytes | None:
        async with self._reading:
            message = await self._transfer(self._context.read())
        return None if message is grpc.aio.EOF else message

    async def send_last(self, message: bytes) -> None:
        self._finished = True
        await self._transfer(self._context.write(message))

    async def send_error(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            status = status_of(error, self)
            del error  # its traceback refers to frames that refer to this call
            await self._context.abort(status.code, status.details, status.trailing)

    def end_with(self, error: EntropydError) -> None:
        """Sets the error that the call ends with, unless it has one."""
        self._finished = True
        self.error = self.error or error

    def break_off(self, error: EntropydError) -> None:
        self.end_with(error)
        if self.leave is not None:
            self.leave()

    async def send(self, message: Any) -> None:
        """Sends one of several messages."""
        async with self._writing:
            await self._transfer(self._context.write(self.render(message)))

    async def _transfer(self, transfer: Coroutine[Any, Any, Any]) -> Any:
        self._waiting += 1
        try:
            result = await transfer
        finally:
            self._waiting -= 1
        self.events += 1
        return result
