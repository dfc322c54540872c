"""Serves the metrics for Prometheus and the status page for people over HTTP.

Invariant: requests only read, and coding never waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.registry import Collector

from entropyd_server.observe import http as http_server
from entropyd_server.observe.status import Status
from entropyd_server.observe.status_page import render
from entropyd_server.vital import Vital

_PAGE_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    # The page needs only its own style; injected markup would stay inert.
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


def serve(address: str, metrics: Collector, status: Callable[[], Status], vital: Vital) -> str:
    """Serves `metrics` and those of this process under /metrics, and the status page under /.

    Returns and raises what `http.serve` does.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    return http_server.serve(address, _application(make_wsgi_app(registry), status), vital)


def _application(metrics: WSGIApplication, status: Callable[[], Status]) -> WSGIApplication:
    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _refuse(start_response, "405 Method Not Allowed", [("Allow", "GET, HEAD")])
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path != "/":
            return _refuse(start_response, "404 Not Found", [])
        start_response("200 OK", list(_PAGE_HEADERS))
        return [render(status()).encode()]

    return respond


def _refuse(start_response: StartResponse, what: str, headers: list[tuple[str, str]]) -> Iterable[bytes]:
    start_response(what, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [f"{what}; try / or /metrics\n".encode()]
