"""OpenTelemetry spans of a client's calls, and the W3C headers that carry them to the server.

Invariant: without `tracing=True` nothing of OpenTelemetry is imported and no header is sent; with it, every
span ends, also when its call is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any

from entropyd.contract.errors import CODES, EntropydError

Entries = list[tuple[str, str]]
# From a method, as in `Compress`, and request metadata: a context for one call of a client, which may take
# several gRPC calls; it gives the metadata to send.
SpanOf = Callable[[str, Entries], AbstractContextManager[Entries]]


def spans(*, tracing: bool) -> SpanOf:
    """The spans of a client's calls, of the application's own tracer provider; children of the current span.

    Raises:
      ImportError: To trace without the opentelemetry-api package.
    """
    if not tracing:
        return lambda _, entries: nullcontext(entries)
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an optional dependency
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("tracing needs OpenTelemetry: pip install 'entropyd[tracing]'") from error
    tracer: Any = trace.get_tracer("entropyd", version("entropyd"))
    headers_of_span = tracecontext.TraceContextTextMapPropagator()

    @contextmanager
    def span_of(method: str, entries: Entries) -> Iterator[Entries]:
        with tracer.start_as_current_span(
            f"entropyd.{method}",
            kind=trace.SpanKind.CLIENT,
            attributes={"rpc.system": "grpc", "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            headers: dict[str, str] = {}
            headers_of_span.inject(headers)
            code, reason = "CANCELLED", "CANCELLED"  # until known otherwise: cancellation is no Exception
            try:
                yield [*entries, *headers.items()]
                code = "OK"
            except EntropydError as error:
                code, reason = error.code, error.reason
                raise
            finally:
                span.set_attribute("rpc.grpc.status_code", CODES.get(code, 0 if code == "OK" else 2))
                if code != "OK":
                    span.set_attribute("entropyd.reason", reason)
                    span.set_status(trace.StatusCode.ERROR, code)

    return span_of
