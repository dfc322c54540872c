"""Traces calls: what each did and when, as OpenTelemetry spans.

Invariants: only a server that traces imports this module; every span that begins ends, also if its caller
cancels; of what a caller sent, spans hold a request id and a model id, both checked, and nothing else.

The interceptor of opentelemetry-instrumentation-grpc is made for gRPC's own servers, and leaves cancelled
calls without a status.
"""

from __future__ import annotations

import threading

import grpc
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from entropyd.contract.errors import EntropydError
from entropyd_server.observe.call_log import model_id_of
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Handle, Method, Open

_CLOSE_SECONDS = 2.0
# By OpenTelemetry's conventions for gRPC servers; the other codes are the caller's mistakes.
_SERVER_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class Tracing:
    """The spans of one server, exported as the OTEL_ variables of the environment say."""

    def __init__(self, version: str) -> None:
        ours = Resource.create({"service.name": "entropyd", "service.version": version})
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._headers = TraceContextTextMapPropagator()
        self.tracer: Tracer = self._provider.get_tracer("entropyd_server", version)

    def around_open(self, method: Method) -> Open:
        """Records a span of a call that is refused."""
        refuse = method.open

        def traced(call: Call) -> None:
            try:
                refuse(call)
            except EntropydError as error:
                span, _ = self._begin(method, call)
                _end(span, call, error.code)
                raise

        return traced

    def around_handle(self, method: Method) -> Handle:
        """Records a span of a call, and makes it the parent of the spans that begin within."""
        handle = method.handle

        async def traced(request: object, call: Call) -> bytes | None:
            span, parent = self._begin(method, call)
            # Never detached: each call has a context of its own, which ends with it.
            contexts.attach(set_span_in_context(span, parent))
            code = "CANCELLED"  # a cancellation is no Exception
            try:
                response = await handle(request, call)
                code = "OK"
            except EntropydError as error:
                code = error.code
                raise
            finally:
                _end(span, call, code)
            return response

        return traced

    def close(self) -> None:
        """Exports the remaining spans, if the collector accepts them in time."""
        # On a thread, because shutdown takes no time limit; a daemon, so that it cannot block the process.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def _begin(self, method: Method, call: Call) -> tuple[Span, Context]:
        """Begins the span of a call, under the caller's if its metadata name one."""
        sent = [(key, value) for key, value in call.invocation_metadata() if isinstance(value, str)]
        parent = self._headers.extract(dict(sent))
        attributes = {"rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name}
        if model_id := model_id_of(sent):
            attributes["entropyd.model_id"] = model_id
        name = f"{method.service}/{method.name}"
        return self.tracer.start_span(name, parent, SpanKind.SERVER, attributes), parent


def _end(span: Span, call: Call, code: str) -> None:
    span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
    if code in _SERVER_FAULTS:
        span.set_status(StatusCode.ERROR, code)
    if call.request_id:  # by which the log has the failure
        span.set_attribute("entropyd.request_id", call.request_id)
    span.end()
