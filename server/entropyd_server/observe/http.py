"""A small HTTP/1.1 server for pages without bodies in requests, on a thread of its own.

Invariant: its connections are few, and each is closed that does not send a request or take an answer in time;
a new one takes the place of the one that has said nothing for the longest time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from entropyd_server.observe.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from entropyd_server.vital import Vital

log = logging.getLogger(__name__)

_BACKLOG = 128
_MOST_CONNECTIONS = 32
# Of a request, with all of its headers.
_MOST_HEAD_BYTES = 8192
# Until a request has come whole, and until an answer has been taken.
_PATIENCE_S = 10.0
# For what the other end still sends after the last answer.
_LINGER_S = 1.0
# Where a connection cannot be accepted, as for want of descriptors.
_PAUSE_S = 0.2
_END = b"\r\n\r\n"


class _RefusedError(Exception):
    """A request that is not passed on to the application."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


def serve(address: str, application: WSGIApplication, vital: Vital) -> str:
    """Serves an application, which is called on the thread of the server, one request at a time.

    Args:
      address: `HOST:PORT`; port 0 for any that is free.
      application: Answers requests; of the environment it gets method, path, query and headers.
      vital: Is told if the thread fails.

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
        # All connections; the one whose last request is the longest ago comes first.
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._failures: Throttle[str] = Throttle(1)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                self._log("connections cannot be accepted: %s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._connections) == _MOST_CONNECTIONS:
                await self._make_room()
            task = loop.create_task(self._answer_all(connection))
            self._connections[task] = connection
            task.add_done_callback(self._closed)

    async def _make_room(self) -> None:
        oldest = next(iter(self._connections))
        oldest.cancel()
        await asyncio.wait({oldest})

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log("a request was not answered: %s", error)

    def _log(self, what: str, error: BaseException) -> None:
        if self._failures.admit(what, time.monotonic()) is not None:
            log.error(what, error, exc_info=None if isinstance(error, OSError) else error)

    async def _answer_all(self, connection: socket.socket) -> None:
        """Answers the requests of a connection until either end closes it."""
        connection.settimeout(0)
        received, keep = b"", True
        with contextlib.suppress(OSError, asyncio.TimeoutError):  # the other end left, or says nothing
            while keep:
                head, received = await asyncio.wait_for(self._next_head(connection, received), _PATIENCE_S)
                if not head:
                    return
                answer, keep = self._answer(head)
                sending = asyncio.get_running_loop().sock_sendall(connection, answer)
                await asyncio.wait_for(sending, _PATIENCE_S)
                self._renew()
            # Closed with something unread, a connection is reset, and the answer may be lost.
            connection.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(self._discard(connection), _LINGER_S)

    async def _discard(self, connection: socket.socket) -> None:
        """Reads to the end of what the other end sends."""
        while await asyncio.get_running_loop().sock_recv(connection, _MOST_HEAD_BYTES):
            pass

    def _renew(self) -> None:
        """Puts this task's connection behind those that have said nothing for longer."""
        task: Any = asyncio.current_task()
        self._connections[task] = self._connections.pop(task)

    async def _next_head(self, connection: socket.socket, received: bytes) -> tuple[bytes, bytes]:
        """The next request line with its headers, and what came after it; empty at the end."""
        while _END not in received:
            if len(received) > _MOST_HEAD_BYTES:
                return received, b""
            more = await asyncio.get_running_loop().sock_recv(connection, _MOST_HEAD_BYTES)
            if not more:
                return b"", b""
            received += more
        head, _, rest = received.partition(_END)
        return head, rest

    def _answer(self, head: bytes) -> tuple[bytes, bool]:
        """The answer to a request, and whether the connection may be used for another."""
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
        except Exception as error:  # noqa: BLE001 - of one request
            self._log("a page cannot be made: %s", error)
            return _refused(HTTPStatus.INTERNAL_SERVER_ERROR), False
        keep, headed = request.keep, request.environ["REQUEST_METHOD"] == "HEAD"
        status, headers = started
        return _rendered(status, headers, body, keep=keep, headed=headed), keep


class Request(NamedTuple):
    """A request.

    Attributes:
      environ: As WSGI has it: method, path, query and headers.
      keep: Whether the connection may be used for another.
    """

    environ: dict[str, Any]
    keep: bool


def _no_writes(_: bytes) -> None:
    raise RuntimeError("WSGI's write is not served")


def parse(head: bytes) -> Request:
    """Reads a request line with its headers.

    Raises:
      _RefusedError: If it is no HTTP/1, too long, or no ASCII.
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
    # A body is not read; what follows it would be taken for a request.
    bodiless = headers.get("HTTP_CONTENT_LENGTH", "0") == "0" and "HTTP_TRANSFER_ENCODING" not in headers
    persistent = version == "HTTP/1.1" and headers.get("HTTP_CONNECTION", "").lower() != "close"
    return Request({**environ, "wsgi.input": BytesIO()}, bodiless and persistent)


def _refused(status: HTTPStatus) -> bytes:
    line = f"{status.value} {status.phrase}"
    return _rendered(line, [("Content-Type", "text/plain")], f"{line}\n".encode())


def _rendered(
    status: str, headers: list[tuple[str, str]], body: bytes, *, keep: bool = False, headed: bool = False
) -> bytes:
    """An answer; without its body where that was not asked for (`headed`)."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"Content-Length: {len(body)}", f"Connection: {'keep-alive' if keep else 'close'}", "", ""]
    return "\r\n".join(lines).encode("ascii") + (b"" if headed else body)
