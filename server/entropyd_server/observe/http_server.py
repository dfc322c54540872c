"""HTTP for operators: the metrics for Prometheus, and the status page for people.

Owns the socket and its threads. It must not know what is on a page. Invariant: whatever is asked, coding does
not wait for it, and nothing can be changed from here.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from entropyd_server.observe.status_page import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.registry import Collector

    from entropyd_server.observe.status import Status

# A peer that says nothing for so long loses its thread.
_IDLE_SECONDS = 10
_PAGE_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    # The page needs nothing but its own style; should anything else get into it, it stays text.
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As WSGIServer, without asking a name server for the name of this machine, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Scrapes are not worth a line each."""


def serve(address: str, metrics: Collector, status: Callable[[], Status]) -> str:
    """Serves the metrics under /metrics and the status page under /, from threads of its own.

    Args:
      address: `HOST:PORT`; port 0 for any that is free.
      metrics: What /metrics shows, besides the memory and the processor time of this process.
      status: What / shows.

    Returns:
      The URL of the status page.

    Raises:
      OSError: If the address cannot be bound.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    server = (_Server6 if ":" in host else _Server)((host, int(port)), _Handler)
    server.set_app(_application(make_wsgi_app(registry), status))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/"


def _application(metrics: WSGIApplication, status: Callable[[], Status]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _refuse(start_response, "405 Method Not Allowed", [("Allow", "GET, HEAD")])
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path != "/":
            return _refuse(start_response, "404 Not Found", [])
        page = render(status()).encode()
        start_response("200 OK", [*_PAGE_HEADERS, ("Content-Length", str(len(page)))])
        return [page]

    return answer


def _refuse(start_response: StartResponse, what: str, headers: list[tuple[str, str]]) -> Iterable[bytes]:
    start_response(what, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [f"{what}; there are / and /metrics\n".encode()]
