"""Traces: what a call did and when, as OpenTelemetry spans.

Owns the spans of a server and their export. It must not know what calls do. Invariants: only a server that is
told to trace imports this; every span that begins ends, also when its caller cancels; no span holds what
a caller sent but a request id and a model id, both checked.

Around the methods like the boundary, and not the interceptor of opentelemetry-instrumentation-grpc: that one
leaves calls that are cancelled without a status, and is made for gRPC's own servers.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from opentelemetry import context as contexts
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from entropyd_server.observe.call_log import REQUEST_ID_KEY, model_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.descriptor import ServiceDescriptor
    from opentelemetry.trace import Span, Tracer

    from entropyd.contract.errors import EntropydError
    from entropyd_server.transport.call import Call

    Refuse = Callable[[str, EntropydError, Call], NoReturn]

S = TypeVar("S")

_CLOSE_SECONDS = 2.0
# As OpenTelemetry's conventions for gRPC servers have it; the other codes are the caller's doing.
_SERVER_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class Tracing:
    """The spans of one server, exported as the OTEL_ variables of the environment say.

    Attributes:
      tracer: Makes spans.
    """

    def __init__(self, version: str) -> None:
        ours = Resource.create({"service.name": "entropyd", "service.version": version})
        # The environment's word (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) counts more than ours.
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._headers = TraceContextTextMapPropagator()
        self.tracer: Tracer = self._provider.get_tracer("entropyd_server", version)

    def enclose(self, servicer: S, service: ServiceDescriptor) -> S:
        """Puts a span around each method of a servicer, and gives the servicer back."""
        for method in service.methods:
            behaviour = getattr(servicer, method.name)
            setattr(servicer, method.name, self._around(service.full_name, method.name, behaviour))
        return servicer

    def enclose_refusal(self, refuse: Refuse) -> Refuse:
        """Puts a span around what ends a call that no servicer sees."""

        def traced(path: str, error: EntropydError, context: Call) -> NoReturn:
            _, service, method = path.split("/")
            with self._call(service, method, context):
                refuse(path, error, context)

        def refused(path: str, error: EntropydError, context: Call) -> NoReturn:
            # Calls are refused before they have a task and with it a context of their own.
            copy_context().run(traced, path, error, context)

        return refused

    def close(self) -> None:
        """Exports what is left, unless the collector keeps it waiting."""
        # A thread, as shutdown takes no time limit; a daemon, so that it cannot keep the process.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def _around(self, service: str, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Call) -> Any:
            with self._call(service, method, context):
                return await behaviour(request, context)

        return answer

    @contextmanager
    def _call(self, service: str, method: str, context: Call) -> Iterator[None]:
        """The span of one call, under the caller's if its headers name one."""
        sent = [(key, value) for key, value in context.invocation_metadata() if isinstance(value, str)]
        parent = self._headers.extract(dict(sent))
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if model_id := model_id_of(sent):
            attributes["entropyd.model_id"] = model_id
        span = self.tracer.start_span(f"{service}/{method}", parent, SpanKind.SERVER, attributes)
        # Never detached: each call has a context of its own, and this ends with it.
        contexts.attach(set_span_in_context(span, parent))
        code = grpc.StatusCode.CANCELLED  # unless it ends otherwise
        try:
            yield
            code = grpc.StatusCode.OK
        except grpc.aio.AbortError:
            code = context.code()
            _note_request_id(span, context)
            raise
        finally:
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code.name in _SERVER_FAULTS:
                span.set_status(StatusCode.ERROR, code.name)
            span.end()


def _note_request_id(span: Span, context: Call) -> None:
    """The id under which the log has the failure."""
    for key, value in context.trailing_metadata():
        if key == REQUEST_ID_KEY:
            span.set_attribute("entropyd.request_id", value)
