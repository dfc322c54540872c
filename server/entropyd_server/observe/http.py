"""A small HTTP/1.1 server for requests without bodies, on a thread of its own.

Invariant: the number of connections is bounded. A connection that neither sends a request nor takes a
response in time is closed, and a new one replaces the one that has been idle the longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import Any, NamedTuple
from wsgiref.types import WSGIApplication

from entropyd_server.observe.throttle import Throttle
from entropyd_server.vital import Vital

log = logging.getLogger(__name__)

_BACKLOG = 128
_MOST_CONNECTIONS = 32
_MOST_HEAD_BYTES = 8192  # a request line with all headers
# Longest time for a request to arrive, and for a response to be taken.
_TIMEOUT_S = 10.0
# How long to read what the peer still sends after the last response.
_LINGER_S = 1.0
# Pause after a connection cannot be accepted, as without free descriptors.
_PAUSE_S = 0.2
_END = b"\r\n\r\n"


class _RefusedError(Exception):
    """A request that does not reach the application."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


def serve(address: str, application: WSGIApplication, vital: Vital) -> str:
    """Serves an application, which is called on the server's thread, one request at a time.

    Args:
      address: `HOST:PORT`; port 0 for any free one.
      application: A WSGI application; its environment has method, path, query and headers only.
      vital: Ends the process if the thread fails.

    Returns:
      The URL of the application.

    Raises:
      OSError: If the address cannot be bound.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    listening.settimeout(0)
    server = _Server(listening, application)
    vital.thread("metrics", lambda: asyncio.run(server.run())).start()
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"


class _Server:
    def __init__(self, listening: socket.socket, application: WSGIApplication) -> None:
        self._listening = listening
        self._application = application
        # The connection whose last request is the longest ago comes first.
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._failures: Throttle[str] = Throttle(1)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                self._log("cannot accept a connection of the status page: %s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._connections) == _MOST_CONNECTIONS:
                await self._make_room()
            task = loop.create_task(self._serve_all(connection))
            self._connections[task] = connection
            task.add_done_callback(self._closed)

    async def _make_room(self) -> None:
        oldest = next(iter(self._connections))
        oldest.cancel()
        await asyncio.wait({oldest})

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log("a request to the status page failed: %s", error)

    def _log(self, what: str, error: BaseException) -> None:
        if self._failures.admit(what, time.monotonic()) is not None:
            log.error(what, error, exc_info=None if isinstance(error, OSError) else error)

    async def _serve_all(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        received, keep = b"", True
        with contextlib.suppress(OSError, asyncio.TimeoutError):  # the peer closed, or is too slow
            while keep:
                head, received = await asyncio.wait_for(self._next_head(connection, received), _TIMEOUT_S)
                if not head:
                    return
                response, keep = self._respond(head)
                sending = asyncio.get_running_loop().sock_sendall(connection, response)
                await asyncio.wait_for(sending, _TIMEOUT_S)
                self._renew()
            # Closing with unread bytes would reset the connection, and the peer might lose the response.
            connection.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(self._discard(connection), _LINGER_S)

    async def _discard(self, connection: socket.socket) -> None:
        while await asyncio.get_running_loop().sock_recv(connection, _MOST_HEAD_BYTES):
            pass

    def _renew(self) -> None:
        """Moves this task's connection behind those that have been idle for longer."""
        task: Any = asyncio.current_task()
        self._connections[task] = self._connections.pop(task)

    async def _next_head(self, connection: socket.socket, received: bytes) -> tuple[bytes, bytes]:
        """Returns the next request line with its headers, and the bytes after it; empty at the end."""
        while _END not in received:
            if len(received) > _MOST_HEAD_BYTES:
                return received, b""
            more = await asyncio.get_running_loop().sock_recv(connection, _MOST_HEAD_BYTES)
            if not more:
                return b"", b""
            received += more
        head, _, rest = received.partition(_END)
        return head, rest

    def _respond(self, head: bytes) -> tuple[bytes, bool]:
        """Returns the response to a request, and whether the connection may carry another."""
        try:
            request = parse(head)
        except _RefusedError as refusal:
            return _refused(refusal.status), False
        started: Any = None

        def start_response(status: str, headers: Any, _: Any = None, /) -> Callable[[bytes], object]:
            nonlocal started
            started = status, headers
            return _no_writes

        try:
            body = b"".join(self._application(request.environ, start_response))
        except Exception as error:  # noqa: BLE001 - fails this request only
            self._log("cannot render a page: %s", error)
            return _refused(HTTPStatus.INTERNAL_SERVER_ERROR), False
        keep, headed = request.keep, request.environ["REQUEST_METHOD"] == "HEAD"
        status, headers = started
        return _rendered(status, headers, body, keep=keep, headed=headed), keep


class Request(NamedTuple):
    """WSGI's environment of a request, and whether the connection may carry another one."""

    environ: dict[str, Any]
    keep: bool


def _no_writes(_: bytes) -> None:
    raise RuntimeError("WSGI's write is not served")


def parse(head: bytes) -> Request:
    """Parses a request line with its headers.

    Raises:
      _RefusedError: If it is not HTTP/1, not ASCII, or too long.
    """
    if len(head) > _MOST_HEAD_BYTES:
        raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    try:
        line, *fields = head.decode("ascii").split("\r\n")
        method, target, version = line.split(" ")
    except ValueError:
        raise _RefusedError(HTTPStatus.BAD_REQUEST) from None
    if version not in {"HTTP/1.0", "HTTP/1.1"} or not target.startswith("/"):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    headers = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip():
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        headers[f"HTTP_{name.upper().replace('-', '_')}"] = value.strip()
    path, _, query = target.partition("?")
    environ = {**headers, "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    # Bodies are not read, so the bytes after one would be taken for a request.
    bodiless = headers.get("HTTP_CONTENT_LENGTH", "0") == "0" and "HTTP_TRANSFER_ENCODING" not in headers
    persistent = version == "HTTP/1.1" and headers.get("HTTP_CONNECTION", "").lower() != "close"
    return Request({**environ, "wsgi.input": BytesIO()}, bodiless and persistent)


def _refused(status: HTTPStatus) -> bytes:
    line = f"{status.value} {status.phrase}"
    return _rendered(line, [("Content-Type", "text/plain")], f"{line}\n".encode())


def _rendered(
    status: str, headers: list[tuple[str, str]], body: bytes, *, keep: bool = False, headed: bool = False
) -> bytes:
    """Renders a response; without its body for a HEAD request (`headed`)."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"Content-Length: {len(body)}", f"Connection: {'keep-alive' if keep else 'close'}", "", ""]
    return "\r\n".join(lines).encode("ascii") + (b"" if headed else body)
