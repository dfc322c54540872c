"""What happens around every call: errors to statuses, figures to metrics.

Owns the one place where an exception becomes a gRPC status. It must not know what any call does. Invariant:
a caller sees an entropyd error with its details and nothing else of the server; what is unexpected goes to
the log under a request id, and only the id to the caller.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from entropyd.contract.errors import EntropydError, InternalError, to_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.protobuf.descriptor import ServiceDescriptor

    from entropyd_server.metrics import Metrics

    Context = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger(__name__)

S = TypeVar("S")

_DETAILS_KEY = "grpc-status-details-bin"


class Boundary:
    """Stands around the methods of entropyd's services.

    Around the methods themselves and not an interceptor: grpc.aio looks a handler up anew for every call that
    passes one, which costs a small call a tenth of its time (docs/adr/0006-batching.md).

    Args:
      metrics: Where calls are counted.
      unready: Says why a service cannot be used yet, by its full name; None once it can.
    """

    def __init__(self, metrics: Metrics, unready: Callable[[str], EntropydError | None]) -> None:
        self._metrics = metrics
        self._unready = unready

    def enclose(self, servicer: S, service: ServiceDescriptor) -> S:
        """Puts the boundary around each method of a servicer, and gives the servicer back."""
        for method in service.methods:
            around = self._around_stream if method.server_streaming else self._around_unary
            behaviour = getattr(servicer, method.name)
            setattr(servicer, method.name, around(service.full_name, method.name, behaviour))
        return servicer

    def _around_unary(self, service: str, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            started = self._begin()
            code = "CANCELLED"  # unless it ends otherwise: cancellation is no Exception
            try:
                self._check_ready(service)
                response = await behaviour(request, context)
                code = "OK"
            except Exception as raised:  # noqa: BLE001 - the boundary: nothing may pass it unconverted
                error = as_error(raised)
                code = error.code
            finally:
                self._end(method, started, code)
            if code != "OK":
                await _abort(context, error)
            return response

        return answer

    def _around_stream(self, service: str, method: str, behaviour: Any) -> Any:
        async def answer(requests: Any, context: Context) -> AsyncIterator[Any]:
            started = self._begin()
            code = "CANCELLED"
            try:
                self._check_ready(service)
                async for response in behaviour(requests, context):
                    yield response
                code = "OK"
            except Exception as raised:  # noqa: BLE001 - see above
                error = as_error(raised)
                code = error.code
            finally:
                self._end(method, started, code)
            if code != "OK":
                await _abort(context, error)

        return answer

    def _check_ready(self, service: str) -> None:
        if (unready := self._unready(service)) is not None:
            raise unready

    def _begin(self) -> float:
        self._metrics.inflight_requests += 1
        return time.perf_counter()

    def _end(self, method: str, started: float, code: str) -> None:
        self._metrics.inflight_requests -= 1
        figures = self._metrics.methods[method]
        figures.duration_seconds.observe(time.perf_counter() - started)
        figures.calls_by_code[code] += 1


def as_error(raised: Exception) -> EntropydError:
    """The entropyd error that a caller is told instead of an exception."""
    if isinstance(raised, EntropydError):
        return raised
    request_id = uuid.uuid4().hex
    log.error("request %s failed", request_id, exc_info=raised)
    return InternalError(
        f"internal error; the server's log has the cause under request {request_id}",
        metadata={"request_id": request_id},
    )


async def _abort(context: Context, error: EntropydError) -> None:
    details = to_status(error).SerializeToString()
    code = grpc.StatusCode[error.code]
    trailing: list[tuple[str, str | bytes]] = [(_DETAILS_KEY, details)]
    if error.retry_after_s is not None:
        # gRPC's clients honour it: proposal A6, client retries.
        trailing.append(("grpc-retry-pushback-ms", str(round(error.retry_after_s * 1000))))
    await context.abort(code, error.message, trailing_metadata=tuple(trailing))
