"""Laws of credentials that are replaced while a client lives: its next call shows the new ones."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd_server.local import LocalServer
from tests.support.certificates import Authority
from tests.support.load import free_ports
from tests.support.stored_models import CHANNELS, put_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from entropyd import ModelInfo

KNOWN, UNKNOWN = "entropyd_known_" + "0" * 40, "entropyd_unknown_" + "0" * 40
Make: TypeAlias = "Callable[..., AbstractContextManager[Callable[..., Any]]]"
MIB = 1 << 20
X = np.ones((2, 4, CHANNELS), np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ModelInfo]:
    store = tmp_path_factory.mktemp("store").as_uri()
    return store, put_model(store)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, model: tuple[str, ModelInfo]) -> Iterator[LocalServer]:
    """A server that knows one token."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"known code {hashlib.sha256(KNOWN.encode()).hexdigest()}\n")
    with LocalServer("--role", "coding", "--tokens-file", str(tokens), store=model[0]) as server:
        yield server


@contextmanager
def blocking(target: str, model: ModelInfo, **arguments: Any) -> Iterator[Callable[..., Any]]:
    """A call of a client that lives on between calls."""
    with entropyd.Client(target, **arguments) as client:
        served = entropyd.Model(client._session, model)
        yield lambda bottleneck=X, progress=None: served.compress(bottleneck, progress=progress)


@contextmanager
def asynchronous(target: str, model: ModelInfo, **arguments: Any) -> Iterator[Callable[..., Any]]:
    with asyncio.Runner() as runner:
        client = entropyd.aio.Client(target, **arguments)
        served = entropyd.aio.Model(client._session, model)

        def compress(bottleneck: Any = X, progress: Any = None) -> Any:
            return runner.get_loop().run_until_complete(served.compress(bottleneck, progress=progress))

        yield compress
        runner.run(client.close())


both_clients = pytest.mark.parametrize("make", [blocking, asynchronous])


@both_clients
def test_a_token_file_is_read_again(
    guarded: LocalServer, model: tuple[str, ModelInfo], tmp_path: Path, make: Make
) -> None:
    file = tmp_path / "token"
    file.write_text(UNKNOWN)
    with make(guarded.target, model[1], token_file=file) as call:
        with pytest.raises(entropyd.UnauthenticatedError):
            call()
        file.write_text(KNOWN + "\n")
        assert call().lengths.size == len(X)


@both_clients
def test_a_token_that_is_refused_is_asked_for_once_more(
    guarded: LocalServer, model: tuple[str, ModelInfo], make: Make
) -> None:
    tokens = iter([UNKNOWN, KNOWN, UNKNOWN, UNKNOWN, KNOWN])
    with make(guarded.target, model[1], token=lambda: next(tokens), wire="float") as call:
        assert call().lengths.size == len(X)
        with pytest.raises(entropyd.UnauthenticatedError):
            call()
        assert next(tokens) == KNOWN  # it was asked twice for either call, and no third time


@both_clients
def test_a_token_file_that_is_gone_or_empty_is_named(
    guarded: LocalServer, model: tuple[str, ModelInfo], tmp_path: Path, make: Make
) -> None:
    file = tmp_path / "token"
    file.write_text(KNOWN)
    with make(guarded.target, model[1], token_file=file) as call:
        call()
        file.write_text("")
        with pytest.raises(ValueError, match="token"):
            call()
        file.unlink()
        with pytest.raises(FileNotFoundError, match=str(file)):
            call()


@both_clients
def test_client_certificates_are_read_again_and_calls_in_flight_go_on(
    model: tuple[str, ModelInfo], tmp_path: Path, make: Make
) -> None:
    servers, clients, strangers = Authority("servers"), Authority("clients"), Authority("strangers")
    cert, key = servers.issue(tmp_path, "server")
    ours = clients.issue(tmp_path, "ours")
    shown = tmp_path / "shown.crt", tmp_path / "shown.key"
    flags = ["--role", "coding", "--tls-cert", str(cert), "--tls-key", str(key)]
    flags += ["--tls-client-ca", str(clients.write(tmp_path / "clients.pem"))]
    ca = servers.write(tmp_path / "servers.pem")
    with LocalServer(
        *flags,
        listen=f"127.0.0.1:{free_ports(1)[0]}",
        credentials=entropyd.tls_credentials(ca, *ours),
        store=model[0],
    ) as server:

        def show(files: tuple[Path, Path]) -> None:
            for source, target in zip(files, shown, strict=True):
                shutil.copy(source, target)

        show(strangers.issue(tmp_path, "stranger"))
        credentials = entropyd.tls_credentials(ca, *shown)
        with make(server.target, model[1], credentials=credentials, timeout_s=20.0) as call:
            with pytest.raises(entropyd.UnavailableError):
                call()
            show(ours)
            expected = call().payload
            renewed: list[int] = []

            def renew(done: int, _: int) -> None:
                """Called when the first of many messages is answered, with the next ones on their way."""
                if not renewed:
                    renewed.append(done)
                    show(clients.issue(tmp_path, "renewed"))

            assert len(call(np.ones((12, MIB // 12, CHANNELS), np.float32), renew).lengths) == 12
            assert renewed == [1]
            assert call().payload == expected
            shown[0].write_bytes(b"")  # as for a moment while it is written
            assert call().payload == expected


@pytest.mark.parametrize("damaged", ["cert", "key", "ca"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\xff"])
def test_files_that_are_no_pem_are_named_and_never_reach_grpc(
    tmp_path: Path, damaged: str, content: bytes
) -> None:
    authority = Authority("clients")
    cert, key = authority.issue(tmp_path, "client")
    files = {"ca": authority.write(tmp_path / "ca.pem"), "cert": cert, "key": key}
    files[damaged].write_bytes(content)
    with pytest.raises(ValueError, match=rf"{files[damaged]}.*: expected "):
        entropyd.tls_credentials(**files)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority("clients")
    (cert, _), (_, key) = authority.issue(tmp_path, "a"), authority.issue(tmp_path, "b")
    with pytest.raises(ValueError, match="the key is not the certificate's"):
        entropyd.tls_credentials(cert=cert, key=key)
