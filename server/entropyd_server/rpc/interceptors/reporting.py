"""Reports every call: its status and duration in the metrics, its failure in the log.

Invariant: a caller sees an EntropydError and nothing else of the server. The cause of an unexpected error
goes to the log under a request id, and only the id to the caller.
"""

from __future__ import annotations

import time

from entropyd.contract.errors import EntropydError
from entropyd_server.errors import as_error
from entropyd_server.metrics import Metrics
from entropyd_server.observe.call_log import CallLog
from entropyd_server.rpc.interceptors import Interceptor
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Handle, Method, Open


class Reporting(Interceptor):
    """Counts calls, logs failures, and gives each failed call its request id."""

    def __init__(self, metrics: Metrics, call_log: CallLog) -> None:
        self._metrics = metrics
        self._call_log = call_log

    def around_open(self, method: Method) -> Open:
        name, refuse = method.name, method.open

        def reported(call: Call) -> None:
            try:
                refuse(call)
            except Exception as raised:  # noqa: BLE001 - no exception may pass unconverted
                error = self._failed(name, call, raised, time.perf_counter())
                self._metrics.methods[name].calls_by_code[error.code] += 1
                try:
                    raise error from None
                finally:
                    del error  # its traceback refers to this frame

        return reported

    def around_handle(self, method: Method) -> Handle:
        name, handle, metrics = method.name, method.handle, self._metrics
        if method.service:
            # Shown before they happen: monitoring misses the first increment of a new series.
            metrics.methods[name].calls_by_code.update(OK=0, INTERNAL=0, DATA_LOSS=0)

        async def reported(request: object, call: Call) -> bytes | None:
            metrics.inflight_requests += 1
            started = time.perf_counter()
            code = "CANCELLED"  # a cancellation is no Exception
            try:
                response = await handle(request, call)
                code = "OK"
            except Exception as raised:  # noqa: BLE001 - no exception may pass unconverted
                error = self._failed(name, call, raised, started)
                code = error.code
                try:
                    raise error from None
                finally:
                    del error  # its traceback refers to this frame
            finally:
                metrics.inflight_requests -= 1
                seconds = time.perf_counter() - started
                counts = metrics.methods[name]
                counts.duration_seconds.observe(seconds)
                counts.calls_by_code[code] += 1
            if self._call_log.logs_successes:
                self._call_log.succeeded(name, 1000 * seconds)
            return response

        return reported

    def _failed(self, method: str, call: Call, raised: Exception, started: float) -> EntropydError:
        """Logs a failure; returns the error for the caller."""
        error = as_error(raised)
        milliseconds = 1000 * (time.perf_counter() - started)
        call.request_id = self._call_log.failed(
            method, call.invocation_metadata(), error, raised, milliseconds
        )
        return error
