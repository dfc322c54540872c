"""OpenTelemetry spans of a client's calls, and the W3C headers that carry them to the server.

Invariant: without `tracing=True` nothing of OpenTelemetry is imported and no header is sent; with it, every
span ends, also when its call is cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from entropyd.contract.errors import CODES, EntropydError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Entries = list[tuple[str, str]]


class Spans(Protocol):
    """Makes the span of each call."""

    def around(self, method: str, entries: Entries) -> AbstractContextManager[Entries]:
        """A context for one call of a client, which may take several gRPC calls; gives its request metadata.

        Args:
          method: As in `Compress`.
          entries: Request metadata.
        """


def spans(*, tracing: bool) -> Spans:
    """The spans of a client's calls.

    Raises:
      ImportError: To trace without the opentelemetry-api package.
    """
    if not tracing:
        return _NoSpans()
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError("tracing needs OpenTelemetry: pip install 'entropyd[tracing]'") from error
    return _Spans(trace.get_tracer("entropyd", version("entropyd")))


class _NoSpans:
    def around(self, method: str, entries: Entries) -> AbstractContextManager[Entries]:  # noqa: ARG002
        return nullcontext(entries)


class _Spans:
    """Spans of the application's own tracer provider, children of the current span."""

    def __init__(self, tracer: Tracer) -> None:
        # Optional dependencies.
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._tracer = tracer
        self._client, self._error = SpanKind.CLIENT, StatusCode.ERROR
        self._headers = TraceContextTextMapPropagator()

    @contextmanager
    def around(self, method: str, entries: Entries) -> Iterator[Entries]:
        attributes = {"rpc.system": "grpc", "rpc.method": method}
        with self._tracer.start_as_current_span(
            f"entropyd.{method}",
            kind=self._client,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            headers: dict[str, str] = {}
            self._headers.inject(headers)
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
                    span.set_status(self._error, code)
