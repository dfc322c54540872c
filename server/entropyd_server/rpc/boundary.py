"""What happens around every call: errors to statuses, figures to metrics.

Owns the one place where an exception becomes a gRPC status. It must not know what any call does. Invariant:
a caller sees an entropyd error with its details and nothing else of the server; what is unexpected goes to
the log under a request id, and only the id to the caller.
"""

from __future__ import annotations

import time
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc

from entropyd.contract.errors import EntropydError, OverloadedError, to_status
from entropyd_server.errors import as_error
from entropyd_server.observe.call_log import REQUEST_ID_KEY
from entropyd_server.rpc.error_size import fitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import ServiceDescriptor

    from entropyd_server.metrics import Metrics
    from entropyd_server.observe.call_log import CallLog
    from entropyd_server.transport.call import Call

S = TypeVar("S")

_DETAILS_KEY = "grpc-status-details-bin"
# What gRPC's clients say of themselves: the attempts before this one, at most four.
_ATTEMPTS_KEY = "grpc-previous-rpc-attempts"
_ATTEMPTS = ("1", "2", "3", "4")
# In the place of a request id, and as long as those that the log makes.
_ANY_ID = "?" * 16


class Boundary:
    """Stands around the methods of entropyd's services.

    Around the methods themselves, whose names it needs and which it looks up once.

    Args:
      metrics: Where calls are counted.
      calls: Where failures are noted.
      unready: Says why a service cannot be used yet, by its full name; None once it can.
    """

    def __init__(
        self, metrics: Metrics, calls: CallLog, unready: Callable[[str], EntropydError | None]
    ) -> None:
        self._metrics = metrics
        self._calls = calls
        self._unready = unready

    def enclose(self, servicer: S, service: ServiceDescriptor) -> S:
        """Puts the boundary around each method of a servicer, and gives the servicer back."""
        for method in service.methods:
            behaviour = getattr(servicer, method.name)
            # Shown before they happen: nobody sees a first increment of what was not there.
            self._metrics.methods[method.name].calls_by_code.update(OK=0, INTERNAL=0, DATA_LOSS=0)
            setattr(servicer, method.name, self._around(service.full_name, method.name, behaviour))
        return servicer

    def refuse(self, path: str, error: EntropydError, context: Call) -> NoReturn:
        """Aborts a call that is refused before any servicer sees it, by its method's path."""
        _, _, method = path.rpartition("/")
        self._metrics.methods[method].calls_by_code[error.code] += 1
        self._abort(method, context, error, error, time.perf_counter())

    def _around(self, service: str, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Call) -> Any:
            started = self._begin()
            code = "CANCELLED"  # unless it ends otherwise: cancellation is no Exception
            try:
                if (unready := self._unready(service)) is not None:
                    raise unready
                response = await behaviour(request, context)
                code = "OK"
            except Exception as raised:  # noqa: BLE001 - the boundary: nothing may pass it unconverted
                error, cause = as_error(raised), raised
                code = error.code
            finally:
                self._end(method, started, code)
            if code != "OK":
                try:
                    self._abort(method, context, error, cause, started)
                finally:
                    # They know this frame; if it knew them, all would stay until garbage is collected, with
                    # the call and its message.
                    del error, cause
            return response

        return answer

    def _begin(self) -> float:
        self._metrics.inflight_requests += 1
        return time.perf_counter()

    def _end(self, method: str, started: float, code: str) -> None:
        self._metrics.inflight_requests -= 1
        figures = self._metrics.methods[method]
        seconds = time.perf_counter() - started
        figures.duration_seconds.observe(seconds)
        figures.calls_by_code[code] += 1
        if self._calls.logs_successes and code == "OK":
            self._calls.succeeded(method, 1000 * seconds)

    def _abort(
        self, method: str, context: Call, error: EntropydError, cause: Exception, started: float
    ) -> NoReturn:
        error = fitted(_more_patient(error, context))
        milliseconds = 1000 * (time.perf_counter() - started)
        request_id = self._calls.failed(method, context.invocation_metadata(), error, cause, milliseconds)
        details = render(error, request_id)
        trailing: list[tuple[str, str | bytes]] = [(_DETAILS_KEY, details), (REQUEST_ID_KEY, request_id)]
        if error.retry_after_s is not None:
            # gRPC's clients honour it: proposal A6, client retries.
            trailing.append(("grpc-retry-pushback-ms", str(round(error.retry_after_s * 1000))))
        context.abort(grpc.StatusCode[error.code], error.message, trailing_metadata=tuple(trailing))


def _more_patient(error: EntropydError, context: Call) -> EntropydError:
    """The error with twice the wait for each time that the call was refused before.

    Else whoever is refused comes again, as often as its client tries, while the queue is as full.
    """
    attempts = dict(context.invocation_metadata()).get(_ATTEMPTS_KEY)
    if error.retry_after_s is None or attempts not in _ATTEMPTS:
        return error
    error = copy(error)  # others may be told of the same one
    error.retry_after_s *= 2 ** int(attempts)
    return error


def render(error: EntropydError, request_id: str) -> bytes:
    """The serialised `google.rpc.Status` of an error, with the request id.

    While there is too much to do, one call after the other is refused for one reason, and to render it would
    be much of refusing. So it is rendered once, around ids of one length.
    """
    if type(error) is not OverloadedError or error.metadata or len(request_id) != len(_ANY_ID):
        return bytes(to_status(error, request_id).SerializeToString())
    before, after = _around_any_id(error.message, error.retry_after_s)
    return b"".join((before, request_id.encode(), after))


@lru_cache(maxsize=16)
def _around_any_id(message: str, retry_after_s: float | None) -> tuple[bytes, bytes]:
    status = to_status(OverloadedError(message, retry_after_s=retry_after_s), _ANY_ID)
    before, _, after = status.SerializeToString().rpartition(_ANY_ID.encode())
    return before, after
