"""What those can do who may not call: their bytes fill no log, and their silence takes no place."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

import entropyd
from entropyd_server.local import LocalServer
from tests.support import http2
from tests.support.load import free_ports
from tests.support.operations import status_page_of, until
from tests.support.transports import Current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = b"TOKENTEXT"
INFO = b"/entropyd.v1.InfoService/GetServerInfo"
CALLS = 2000
# Calls that begin with bytes that are no text, and the code that the server counts them under.
FLOODS = {
    "a token": (
        INFO,
        (b"authorization", b"Bearer " + SECRET + b"\xff" * 500),
        "GetServerInfo",
        "UNAUTHENTICATED",
    ),
    "metadata": (INFO, (b"x-note", SECRET + b"\xff" * 500), "GetServerInfo", "UNAUTHENTICATED"),
    "a path": (b"/" + SECRET + b"\xff" * 500, (b"x-note", b"a"), "unknown", "UNIMPLEMENTED"),
    # What gRPC's core itself would log, whoever sends it.
    "a deadline": (INFO, (b"grpc-timeout", SECRET), None, None),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that asks for a token."""
    tokens: Path = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"ci code {'0' * 64}\n")
    flags = ["--role", "coding", "--tokens-file", str(tokens), "--metrics-listen", "127.0.0.1:0"]
    with LocalServer(*flags, listen=f"127.0.0.1:{free_ports(1)[0]}") as server:
        yield server
        server.wait_until_serving()


def address_of(server: LocalServer) -> tuple[str, int]:
    host, _, port = server.target.rpartition(":")
    return host, int(port)


def counted(server: LocalServer, method: str, code: str) -> float:
    with urlopen(f"{status_page_of(server)}metrics", timeout=30) as answer:  # noqa: S310 - our own server
        name = f'entropyd_requests_total{{code="{code}",method="{method}"}} '
        lines = answer.read().decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("what", FLOODS)
def test_bytes_that_are_no_text_fill_no_log(what: str, guarded: LocalServer) -> None:
    if what == "a path" and Current.transport.name == "aio":
        pytest.skip("grpc.aio stops serving at a path that is not UTF-8 (docs/operations.md)")
    path, field, method, code = FLOODS[what]
    before = guarded.log_path.stat().st_size
    ended_before = 0.0 if method is None or code is None else counted(guarded, method, code)
    with http2.connect(address_of(guarded)) as connection:
        for stream in range(1, 2 * CALLS, 2):
            connection.sendall(http2.opening(stream, path, field, ends=True) + http2.reset(stream))
        if method is not None and code is not None:
            until(lambda: counted(guarded, method, code) > ended_before, "no call was counted")
    guarded.wait_until_serving()
    logged = guarded.log_path.read_bytes()[before:]
    assert SECRET not in logged
    assert b"Traceback" not in logged
    assert len(logged) < 20_000


class FewDescriptors(LocalServer):
    """A server that may have few files and connections."""

    _program = (
        *("sh", "-c", 'ulimit -n 128 && exec "$@"', "sh"),
        *(sys.executable, "-m", "entropyd_server"),
    )


def test_connections_that_say_nothing_take_no_descriptors_from_calls() -> None:
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    flags = ["--role", "coding", "--metrics-listen", "127.0.0.1:0"]
    with FewDescriptors(*flags, listen=listen) as server, contextlib.ExitStack() as silent:
        page = urlsplit(status_page_of(server))
        for _ in range(300):
            connection = silent.enter_context(socket.socket())
            connection.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                connection.connect((page.hostname or "", page.port or 0))
        with urlopen(page.geturl(), timeout=30) as answer:  # noqa: S310 - our own server
            assert answer.status == 200
        with entropyd.Client(server.target) as client:
            client.server_info()
        log = server.log_path.read_text()
        assert "may open only 128 files and connections" in log
        assert "Traceback" not in log


def test_a_server_may_open_what_the_system_allows() -> None:
    with LocalServer("--role", "coding") as server:
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 1 << 20)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nAccept: text/plain; version=\xff\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"400"),
        (b"\xff" * 20 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/2\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nAccept: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nConnection: close\r\nAccept: \x01\r\n\r\n", b"200"),
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
    ],
)
def test_whatever_is_asked_of_the_metrics_port_is_answered(
    request_bytes: bytes, status: bytes, guarded: LocalServer
) -> None:
    page = urlsplit(status_page_of(guarded))
    with socket.create_connection((page.hostname or "", page.port or 0), timeout=30) as connection:
        connection.sendall(request_bytes)
        answer = b""
        while more := connection.recv(1 << 16):
            answer += more
    assert answer.split(b" ")[1] == status
    assert b"Traceback" not in guarded.log_path.read_bytes()


def test_a_connection_takes_one_request_after_the_other(guarded: LocalServer) -> None:
    page = urlsplit(status_page_of(guarded))
    asked = b"HEAD / HTTP/1.1\r\n\r\n" * 2 + b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection((page.hostname or "", page.port or 0), timeout=30) as connection:
        connection.sendall(asked)
        answers = b""
        while more := connection.recv(1 << 16):
            answers += more
    assert [line for line in answers.split(b"\r\n") if line.startswith(b"HTTP/")] == [
        *[b"HTTP/1.1 200 OK"] * 2,
        b"HTTP/1.1 404 Not Found",
    ]
