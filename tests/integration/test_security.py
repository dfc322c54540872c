"""Who gets in, what they may do, and what they learn, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
import entropyd.aio
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc, info_pb2, info_pb2_grpc
from entropyd_server.local import LocalServer
from entropyd_server.security.access import METHOD_SCOPES
from entropyd_server.security.tokens import Scope
from tests.support.certificates import Authority
from tests.support.stored_models import CHANNELS, put_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKENS = {scope: f"entropyd_{scope.value}_" + "0123456789" * 4 for scope in Scope}
OK = grpc.StatusCode.OK
REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
X = np.random.default_rng(0).normal(0, 1, (4, 5, CHANNELS)).astype(np.float32)
MIB = 1 << 20


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def token_line(name: str, scope: str, token: str) -> str:
    return f"{name} {scope} {hashlib.sha256(token.encode()).hexdigest()}\n"


def until(condition: Callable[[], object]) -> None:
    """Waits for what the server does in its own time; a test that waits too long has failed."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def reached(target: str, credentials: grpc.ChannelCredentials | None, token: str | None = None) -> bool:
    """Whether a call over a new connection is answered."""
    pool = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with (
        grpc.insecure_channel(target, pool)
        if credentials is None
        else grpc.secure_channel(target, credentials, pool)
    ) as channel:
        info: Any = info_pb2_grpc.InfoServiceStub(channel)
        try:
            info.GetServerInfo(info_pb2.GetServerInfoRequest(), metadata=metadata(token), timeout=30)
        except grpc.RpcError as error:
            ended = error.code()
        else:
            ended = OK
    assert ended in REFUSED | {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, OK}
    return ended is OK


def peak_bytes(server: LocalServer) -> int:
    """Most memory that a server has had so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


class Files:
    """The files of one server, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("servers")
        self.clients = Authority("clients")
        self.ca = self.authority.write(folder / "ca.pem")
        self.client_ca = self.clients.write(folder / "client-ca.pem")
        self.cert, self.key = self.authority.issue(folder, "server")
        self.tokens = folder / "tokens"
        self.tokens.write_text("".join(token_line(s.value, s.value, TOKENS[s]) for s in Scope))
        self.tls = ("--tls-cert", str(self.cert), "--tls-key", str(self.key))
        self.client = self.clients.issue(folder, "client")
        self.trust = entropyd.tls_credentials(self.ca)
        self.store = folder / "store"
        self.model = put_model(self.store.as_uri())

    def renew(self) -> grpc.ChannelCredentials:
        """Gives the server a certificate of a new authority, and what a client trusts it with."""
        authority = Authority("new servers")
        folder = self.folder / "new"
        folder.mkdir()
        for new, old in zip(authority.issue(folder, "server"), (self.cert, self.key), strict=True):
            shutil.copy(new, old)
        return entropyd.tls_credentials(authority.write(folder / "ca.pem"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def discreet(server: LocalServer) -> None:
    """A server's log tells nobody what a caller's secret is."""
    assert server.process.poll() is None
    log = server.log_path.read_text()
    assert not any(token in log for token in TOKENS.values())
    assert "PRIVATE KEY" not in log
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Files]]:
    """A server with the coding role, TLS and tokens."""
    files = Files(tmp_path_factory.mktemp("guarded"))
    flags = ("--role", "coding", *files.tls, "--tokens-file", str(files.tokens))
    store = files.store.as_uri()
    with LocalServer(*flags, listen=free_address(), credentials=files.trust, store=store) as server:
        yield server, files
        discreet(server)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Files]]:
    """A server with both roles, mutual TLS, tokens and a quota; nobody waits for its modeling plane."""
    files = Files(tmp_path_factory.mktemp("mutual"))
    files.trust = entropyd.tls_credentials(files.ca, *files.client)
    flags = [*files.tls, "--tls-client-ca", str(files.client_ca), "--tokens-file", str(files.tokens)]
    flags += ["--max-models-per-caller", "1"]
    server = LocalServer(*flags, listen=free_address(), credentials=files.trust, wait=False)
    with server:
        server.wait_until_serving("entropyd.v1.CodingService")
        yield server, files
        discreet(server)


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def untyped(channel: grpc.Channel) -> Any:
    """A channel for bytes as they are, which grpc's types do not know."""
    return channel


def outcome(channel: grpc.Channel, path: str, token: str | None) -> grpc.StatusCode:
    """How a call of any kind with an empty message ends."""
    call: Any = untyped(channel).stream_stream(path)(iter([b""]), metadata=metadata(token), timeout=60)
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass
    return cast("grpc.StatusCode", call.code())


def test_each_method_asks_for_its_scope(mutual: tuple[LocalServer, Files]) -> None:
    server, files = mutual
    with grpc.secure_channel(server.target, files.trust) as channel:
        for path, needed in METHOD_SCOPES.items():
            assert outcome(channel, path, None) is grpc.StatusCode.UNAUTHENTICATED
            assert outcome(channel, path, "entropyd_wrong") is grpc.StatusCode.UNAUTHENTICATED
            refused = {scope for scope in Scope if outcome(channel, path, TOKENS[scope]) in REFUSED}
            assert refused == set(Scope) - needed


def test_health_is_open_and_a_method_of_nobody_is_none(guarded: tuple[LocalServer, Files]) -> None:
    server, files = guarded
    with grpc.secure_channel(server.target, files.trust) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="entropyd.liveness")
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert outcome(channel, "/no.such.Service/Method", None) is grpc.StatusCode.UNIMPLEMENTED


def test_the_client_sends_its_token_and_raises_what_the_server_says(
    guarded: tuple[LocalServer, Files],
) -> None:
    server, files = guarded
    for token, error, reason in (
        (TOKENS[Scope.MODEL], entropyd.PermissionDeniedError, "MISSING_SCOPE"),
        (None, entropyd.UnauthenticatedError, "MISSING_CREDENTIALS"),
        ("entropyd_wrong", entropyd.UnauthenticatedError, "INVALID_CREDENTIALS"),
    ):
        with entropyd.Client(server.target, credentials=files.trust, token=token) as client:
            with pytest.raises(error) as caught:
                entropyd.Model(client._session, files.model).decompress([b"x"], (1,))
        assert caught.value.reason == reason
        assert token is None or token not in str(caught.value)
    with entropyd.Client(server.target, credentials=files.trust, token=TOKENS[Scope.CODE]) as client:
        assert client.server_info().max_concurrent_calls == 1024
        model = entropyd.Model(client._session, files.model)
        restored = model.decompress(model.compress(X))
    assert np.abs(restored - X).max() <= 0.5 + 1e-6

    async def asynchronously() -> None:
        async with entropyd.aio.Client(
            server.target, credentials=files.trust, token=TOKENS[Scope.CODE]
        ) as client:
            model = entropyd.aio.Model(client._session, files.model)
            np.testing.assert_array_equal(await model.decompress(await model.compress(X)), restored)

    asyncio.run(asynchronously())


def payload_of(model: entropyd.Model) -> bytes:
    return model.compress(X).payload


def test_a_client_takes_its_files_to_another_process_by_their_paths(
    guarded: tuple[LocalServer, Files], tmp_path: Path
) -> None:
    server, files = guarded
    token_file = tmp_path / "token"
    token_file.write_text(TOKENS[Scope.CODE] + "\n")
    with (
        entropyd.Client(server.target, credentials=files.trust, token_file=token_file) as client,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as elsewhere,
    ):
        model = entropyd.Model(client._session, files.model)
        assert elsewhere.submit(payload_of, model).result(60) == payload_of(model)


def test_a_token_is_asked_for_before_every_call(guarded: tuple[LocalServer, Files], tmp_path: Path) -> None:
    server, files = guarded
    token_file = tmp_path / "token"

    def give(token: str) -> None:
        (tmp_path / "new").write_text(token)
        (tmp_path / "new").replace(token_file)

    give(TOKENS[Scope.CODE])
    ways: tuple[dict[str, Any], ...] = ({"token_file": token_file}, {"token": token_file.read_text})
    for way in ways:
        with entropyd.Client(server.target, credentials=files.trust, **way) as client:
            model = entropyd.Model(client._session, files.model)
            give("entropyd_wrong")
            with pytest.raises(entropyd.UnauthenticatedError):
                model.compress(X)
            give(TOKENS[Scope.CODE])
            model.compress(X)

    async def main() -> None:
        for way in ways:
            async with entropyd.aio.Client(server.target, credentials=files.trust, **way) as client:
                model = entropyd.aio.Model(client._session, files.model)
                give("entropyd_wrong")
                with pytest.raises(entropyd.UnauthenticatedError):
                    await model.compress(X)
                give(TOKENS[Scope.CODE])
                await model.compress(X)

    asyncio.run(main())


def test_headers_without_end_are_refused(guarded: tuple[LocalServer, Files]) -> None:
    server, files = guarded
    before = peak_bytes(server)
    with grpc.secure_channel(server.target, files.trust) as channel:
        for entries in ((("padding", "x" * MIB),), tuple((f"h{n}", "x" * 100) for n in range(5000))):
            info = untyped(channel).unary_unary("/entropyd.v1.InfoService/GetServerInfo")
            with pytest.raises(grpc.RpcError) as caught:
                info(b"", metadata=(*metadata(TOKENS[Scope.CODE]), *entries), timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_bytes(server) - before < 24 * MIB


@pytest.mark.parametrize("token", [None, "entropyd_wrong", TOKENS[Scope.MODEL]])
def test_a_large_message_of_somebody_who_may_not_call_is_never_assembled(
    guarded: tuple[LocalServer, Files], token: str | None
) -> None:
    server, files = guarded
    before = peak_bytes(server)
    options = [("grpc.max_send_message_length", -1)]
    with grpc.secure_channel(server.target, files.trust, options) as channel:
        compress = untyped(channel).unary_unary("/entropyd.v1.CodingService/Compress")
        with pytest.raises(grpc.RpcError) as caught:
            compress(bytes(64 * MIB), metadata=metadata(token), timeout=60)
    assert caught.value.code() in REFUSED
    assert peak_bytes(server) - before < 24 * MIB


def test_a_compressed_message_is_not_inflated_past_the_limit(guarded: tuple[LocalServer, Files]) -> None:
    server, files = guarded
    before = peak_bytes(server)
    options = [("grpc.max_send_message_length", -1)]
    with grpc.secure_channel(
        server.target, files.trust, options, compression=grpc.Compression.Gzip
    ) as channel:
        compress = untyped(channel).unary_unary("/entropyd.v1.CodingService/Compress")
        with pytest.raises(grpc.RpcError) as caught:
            compress(bytes(160 * MIB), metadata=metadata(TOKENS[Scope.CODE]), timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_bytes(server) - before < 120 * MIB


def test_only_tls_reaches_a_server_with_tls(guarded: tuple[LocalServer, Files], tmp_path: Path) -> None:
    server, files = guarded
    stranger = Authority("strangers").write(tmp_path / "stranger.pem")
    assert reached(server.target, files.trust, TOKENS[Scope.CODE])
    assert not reached(server.target, None, TOKENS[Scope.CODE])
    with (
        pytest.raises(entropyd.UnavailableError, match="if it speaks TLS, connect with TLS"),
        entropyd.Client(server.target) as plain,
    ):
        plain.server_info()
    assert not reached(server.target, entropyd.tls_credentials(stranger), TOKENS[Scope.CODE])


def test_tokens_are_reloaded_and_a_damaged_file_changes_nothing(
    guarded: tuple[LocalServer, Files],
) -> None:
    server, files = guarded
    before, late = files.tokens.read_text(), "entropyd_late"
    assert not reached(server.target, files.trust, late)
    files.tokens.write_text(before + token_line("late", "code", late))
    until(lambda: reached(server.target, files.trust, late))
    files.tokens.write_text(f"late code {late}\n")
    until(lambda: "tokens changed and cannot be used" in server.log_path.read_text())
    assert reached(server.target, files.trust, late)
    assert late not in server.log_path.read_text()
    files.tokens.write_text(before)
    until(lambda: not reached(server.target, files.trust, late))
    assert reached(server.target, files.trust, TOKENS[Scope.CODE])


def test_a_certificate_is_renewed_under_connected_clients(files: Files) -> None:
    store = files.store.as_uri()
    request = coding_pb2.CompressRequest(model_id=files.model.id, bottleneck=tensor_to_message(X))
    flags = ("--role", "coding", *files.tls)
    with LocalServer(*flags, listen=free_address(), credentials=files.trust, store=store) as server:
        with grpc.secure_channel(server.target, files.trust) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            expected = stub.Compress(request).compressed.payload
            trust = files.renew()
            until(lambda: reached(server.target, trust))
            assert not reached(server.target, files.trust)
            # A pair that does not belong together leaves the one before it in use.
            files.key.write_bytes(files.clients.issue(files.folder, "other")[1].read_bytes())
            until(lambda: "the key is not the certificate's" in server.log_path.read_text())
            assert reached(server.target, trust)
            assert stub.Compress(request).compressed.payload == expected
        assert files.key.read_text().splitlines()[1] not in server.log_path.read_text()


def test_mutual_tls_lets_in_clients_of_its_authority_alone(
    mutual: tuple[LocalServer, Files], tmp_path: Path
) -> None:
    server, files = mutual
    token = TOKENS[Scope.CODE]
    strangers = Authority("strangers").issue(tmp_path, "stranger")
    assert reached(server.target, files.trust, token)
    assert not reached(server.target, entropyd.tls_credentials(files.ca), token)
    assert not reached(server.target, entropyd.tls_credentials(files.ca, *strangers), token)
    # A server's certificate is of another authority than clients' are.
    assert not reached(server.target, entropyd.tls_credentials(files.ca, files.cert, files.key), token)


def test_the_whole_job_is_done_by_those_who_may(mutual: tuple[LocalServer, Files]) -> None:
    server, files = mutual
    server.wait_until_serving()
    token_file = files.folder / "token"
    token_file.write_text(TOKENS[Scope.CODE] + "\n")
    command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, "--tls-ca", str(files.ca)]
    command += ["--tls-cert", str(files.client[0]), "--tls-key", str(files.client[1])]
    variables = {name: value for name, value in os.environ.items() if name != "ENTROPYD_TOKEN"}

    def run(*arguments: str, token: str | None, status: int = 0) -> str:
        environment = variables if token is None else variables | {"ENTROPYD_TOKEN": token}
        ran = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == status, ran.stderr
        assert "Traceback" not in ran.stderr
        assert not re.search("entropyd_(wrong|code_|model_|admin_)", ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    create = ("models", "create", "--prior", "NoisyNormal", "-p", "scale=[1,2,4]", "--coding-rank", "2")
    model_id = run(*create, "-p", "loc=0", token=TOKENS[Scope.MODEL]).strip()
    assert "max_models_per_caller" in run(*create, "-p", "loc=1", token=TOKENS[Scope.MODEL], status=1)
    np.save(files.folder / "x.npy", X)
    source, archive = str(files.folder / "x.npy"), str(files.folder / "x.entropyd")
    # The file wins over the environment.
    coding = ("--token-file", str(token_file), "compress", "--model", model_id, source, archive)
    run(*coding, token="entropyd_wrong")  # noqa: S106
    delete = ("models", "delete", model_id)
    assert "--token-file" in run(*delete, token=None, status=1)
    assert "MISSING_SCOPE" in run(*delete, token=TOKENS[Scope.MODEL], status=1)
    exported = str(files.folder / "model.safetensors")
    run("models", "export", model_id, exported, token=TOKENS[Scope.CODE])
    run(*delete, token=TOKENS[Scope.ADMIN])
    # Its tables would be built, and are what all would get who create it.
    importing = ("models", "import", exported)
    assert "needs scope admin" in run(*importing, token=TOKENS[Scope.MODEL], status=1)
    run(*importing, token=TOKENS[Scope.ADMIN])
    assert re.search("tables_origin +imported", run("models", "show", model_id, token=TOKENS[Scope.CODE]))
    run(*create, "-p", "loc=1", token=TOKENS[Scope.MODEL])


def test_calls_past_the_limit_are_refused_while_health_answers() -> None:
    def held(stub: Any) -> Any:
        """A stream that the server has in hand for sure: it has answered a message of it."""
        call = stub.CompressStream(iter_until_cancelled())
        assert next(call).request_id == "held"
        return call

    def iter_until_cancelled() -> Iterator[coding_pb2.CompressStreamRequest]:
        yield coding_pb2.CompressStreamRequest(request_id="held")
        done.wait()

    done = threading.Event()
    with LocalServer("--role", "coding", "--max-concurrent-calls", "4") as server:
        pool = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with (
            grpc.insecure_channel(server.target, pool) as one,
            grpc.insecure_channel(server.target, pool) as other,
            grpc.insecure_channel(server.target, pool) as third,
        ):
            calls = [held(coding_pb2_grpc.CodingServiceStub(channel)) for channel in (one, one, other, other)]
            info: Any = info_pb2_grpc.InfoServiceStub(third)
            with pytest.raises(grpc.RpcError) as caught:
                info.GetServerInfo(info_pb2.GetServerInfoRequest(), timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "grpc-retry-pushback-ms" in {entry.key for entry in caught.value.trailing_metadata()}
            health: Any = health_pb2_grpc.HealthStub(third)
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            calls[0].cancel()
            until(lambda: reached(server.target, None))
            done.set()


def test_a_connection_grows_old_without_costing_a_call() -> None:
    with LocalServer("--role", "coding", "--max-connection-age-seconds", "0.2") as server:
        with grpc.insecure_channel(server.target, [("grpc.enable_retries", 0)]) as channel:
            states: list[grpc.ChannelConnectivity] = []
            channel.subscribe(states.append, try_to_connect=True)
            info: Any = info_pb2_grpc.InfoServiceStub(channel)

            def called_over_a_second_connection() -> bool:
                info.GetServerInfo(info_pb2.GetServerInfoRequest(), timeout=60)
                return states.count(grpc.ChannelConnectivity.READY) > 1

            until(called_over_a_second_connection)


def start_error(*flags: str) -> str:
    command = [sys.executable, "-m", "entropyd_server", "--role", "coding", "--metrics-listen", ""]
    command += ["--store", "memory:///", "--listen", free_address()]
    ran = subprocess.run([*command, *flags], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    return line


def test_files_that_cannot_be_used_end_the_start_in_one_line(files: Files) -> None:
    missing = files.folder / "missing.key"
    line = start_error("--tls-cert", str(files.cert), "--tls-key", str(missing))
    assert line == f"Error: --tls-key {missing}: No such file or directory"
    files.tokens.write_text("nobody")
    line = start_error("--tokens-file", str(files.tokens))
    assert line == f"Error: --tokens-file {files.tokens}: line 1: has 1 fields; expected NAME SCOPES SHA256"


def test_a_caller_learns_nothing_of_the_servers_inside(guarded: tuple[LocalServer, Files]) -> None:
    server, files = guarded
    said = b""
    with grpc.secure_channel(server.target, files.trust) as channel:
        for path in METHOD_SCOPES:
            for data in (b"\xff", b"", b"\x0a\x40" + files.model.id.encode(), b"\x0a\x05../..x"):
                stream = untyped(channel).stream_stream(path)
                call = stream(iter([data]), metadata=metadata(TOKENS[Scope.ADMIN]), timeout=60)
                with contextlib.suppress(grpc.RpcError):
                    for answer in call:
                        said += answer
                said += f"{call.details()} {call.trailing_metadata()}".encode()
    for secret in (b"Traceback", b".py", b"site-packages", str(files.folder).encode(), b"/tmp/"):
        assert secret not in said
