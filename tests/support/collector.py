"""An OpenTelemetry collector that keeps the spans that exporters send to it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Span:
    """A span as it was received; `attributes` and `resource` by their keys."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    begin_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any]


class Collector:
    """Receives spans over OTLP/HTTP with JSON, as of https://opentelemetry.io/docs/specs/otlp/."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def __enter__(self) -> Self:
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = self.path == "/v1/traces"
                if known:
                    spans.extend(_received(body))
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _received(body: dict[str, Any]) -> list[Span]:
    return [
        Span(
            service=_values(resource["resource"]["attributes"])["service.name"],
            name=span["name"],
            trace_id=span["traceId"],
            span_id=span["spanId"],
            parent_id=span.get("parentSpanId", ""),
            kind=span["kind"],
            begin_ns=int(span["startTimeUnixNano"]),
            end_ns=int(span["endTimeUnixNano"]),
            failed=span.get("status", {}).get("code") == 2,
            attributes=_values(span.get("attributes", [])),
        )
        for resource in body["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    def value(typed: dict[str, Any]) -> Any:
        ((kind, content),) = typed.items()
        return int(content) if kind == "intValue" else content

    return {attribute["key"]: value(attribute["value"]) for attribute in attributes}
