"""What happens around every call: errors to statuses, figures to metrics.

Owns the one place where an exception becomes a gRPC status. It must not know what any call does. Invariant:
a caller sees an entropyd error with its details and nothing else of the server; what is unexpected goes to
the log under a request id, and only the id to the caller.
"""

from __future__ import annotations

import functools
import logging
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from entropyd.contract.errors import EntropydError, InternalError, to_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from entropyd_server.metrics import Metrics

    Context = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger(__name__)

_DETAILS_KEY = "grpc-status-details-bin"


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps the methods of entropyd's services.

    Args:
      metrics: Where calls are counted.
      unready: Says why a method cannot be served yet; None once it can.
    """

    def __init__(self, metrics: Metrics, unready: Callable[[str], EntropydError | None]) -> None:
        self._metrics = metrics
        self._unready = unready
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """See base class. Each method is wrapped once and then found by name."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/entropyd."):
            return handler
        serializers = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            behaviour = self._around_unary(method, handler.unary_unary)
            handler = grpc.unary_unary_rpc_method_handler(behaviour, *serializers)
        elif handler.stream_stream is not None:
            behaviour = self._around_stream(method, handler.stream_stream)
            handler = grpc.stream_stream_rpc_method_handler(behaviour, *serializers)
        self._wrapped[method] = handler
        return handler

    def _around_unary(self, method: str, behaviour: Any) -> Any:
        guard = self._guard(method)

        async def answer(request: Any, context: Context) -> Any:
            async with guard(context):
                return await behaviour(request, context)

        return answer

    def _around_stream(self, method: str, behaviour: Any) -> Any:
        guard = self._guard(method)

        async def answer(requests: Any, context: Context) -> AsyncIterator[Any]:
            async with guard(context):
                async for response in behaviour(requests, context):
                    yield response

        return answer

    def _guard(self, method: str) -> Callable[[Context], AbstractAsyncContextManager[None]]:
        short = method.rpartition("/")[2]
        seconds = self._metrics.request_duration_seconds.labels(short)
        inflight = self._metrics.inflight_requests
        # Bound once: looking labels up costs more than counting.
        count = functools.cache(functools.partial(self._metrics.requests.labels, short))

        @asynccontextmanager
        async def guard(context: Context) -> AsyncIterator[None]:
            started = time.perf_counter()
            inflight.inc()
            code, error = "CANCELLED", None  # unless it ends otherwise: cancellation is no Exception
            try:
                if (unready := self._unready(method)) is not None:
                    raise unready
                yield
                code = "OK"
            except Exception as raised:  # noqa: BLE001 - the boundary: nothing may pass it unconverted
                error = raised if isinstance(raised, EntropydError) else _internal(raised, method)
                code = error.code
            finally:
                inflight.dec()
                seconds.observe(time.perf_counter() - started)
                count(code).inc()
            if error is not None:
                await _abort(context, error)

        return guard


def _internal(raised: Exception, method: str) -> InternalError:
    request_id = uuid.uuid4().hex
    log.error("request %s: %s failed", request_id, method, exc_info=raised)
    return InternalError(
        f"internal error; the server's log has the cause under request {request_id}",
        metadata={"request_id": request_id},
    )


async def _abort(context: Context, error: EntropydError) -> None:
    details = to_status(error).SerializeToString()
    code = grpc.StatusCode[error.code]
    await context.abort(code, error.message, trailing_metadata=((_DETAILS_KEY, details),))
