"""Laws of clients without a server: they say in time which address gives no answer, and why."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

import entropyd
import entropyd.aio
from entropyd import tls_credentials
from entropyd.cli.main import entropyd as entropyd_command
from entropyd.contract.errors import to_status
from entropyd_server.local import LocalServer
from tests.support.archive_cases import EMBEDDED, archive_bytes, tensor_of
from tests.support.load import free_ports
from tests.support.stored_models import CHANNELS, put_model

if TYPE_CHECKING:
    from collections.abc import Callable

CALL = "import sys, entropyd; entropyd.Client(sys.argv[1], timeout_s=20).server_info()"


def info(target: str, **arguments: Any) -> None:
    with entropyd.Client(target, **arguments) as client:
        client.server_info()


def info_by_aio(target: str, **arguments: Any) -> None:
    async def call() -> None:
        async with entropyd.aio.Client(target, **arguments) as client:
            await client.server_info()

    asyncio.run(call())


both_clients = pytest.mark.parametrize("call", [info, info_by_aio])


# Attempts take about four seconds in all, which are over within the second time alone.
@pytest.mark.parametrize("timeout_s", [0.3, 20.0])
@both_clients
def test_where_nobody_listens_the_address_and_the_cause_are_named(
    call: Callable[..., None], timeout_s: float
) -> None:
    target = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(entropyd.UnavailableError, match=f"{target} cannot be reached: .*refused") as caught:
        call(target, timeout_s=timeout_s)
    assert caught.value.reason == "UNREACHABLE"


@both_clients
def test_a_name_that_leads_nowhere_is_said_to_lead_nowhere(call: Callable[..., None]) -> None:
    with pytest.raises(entropyd.UnavailableError, match=r"no-such\.invalid:1 cannot be reached"):
        call("no-such.invalid:1", timeout_s=10.0)


@both_clients
def test_a_server_that_does_not_answer_in_time_is_late_not_unreachable(call: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(entropyd.DeadlineExceededError) as caught:
            call(target, timeout_s=0.5)
    assert str(caught.value) == f"no answer from {target} within timeout_s=0.5"


def large_calls(client: Any, model: Any) -> dict[str, Callable[[float], Any]]:
    """Calls whose first message is so large that the client asks for the server's limit before it."""
    x = np.zeros((32, 4096, CHANNELS), np.float32)
    rows = np.tile(np.append(np.arange(4096), 65536), (256, 1))
    tables = entropyd.TabulatedConfig(rows, np.zeros(256, int), 1)
    return {
        "compress": lambda timeout_s: model.compress(x, timeout_s=timeout_s),
        "decompress": lambda timeout_s: model.decompress([bytes(1 << 21)], (5,), timeout_s=timeout_s),
        "perturb": lambda timeout_s: model.perturb(x, timeout_s=timeout_s),
        "create_model": lambda timeout_s: client.create_model(tables, timeout_s=timeout_s),
        "import_model": lambda timeout_s: client.import_model(bytes(1 << 21), timeout_s=timeout_s),
    }


@pytest.mark.parametrize("name", ["compress", "decompress", "perturb", "create_model", "import_model"])
@pytest.mark.parametrize("by_aio", [False, True])
def test_a_large_message_takes_no_more_time_than_its_call_has(
    tmp_path: Path, name: str, by_aio: bool
) -> None:
    info = put_model(tmp_path.as_uri())

    async def call_by_aio(target: str) -> None:
        async with entropyd.aio.Client(target, timeout_s=None, wire="float") as client:
            await large_calls(client, entropyd.aio.Model(client._session, info))[name](0.5)

    def call(target: str) -> None:
        with entropyd.Client(target, timeout_s=None, wire="float") as client:
            large_calls(client, entropyd.Model(client._session, info))[name](0.5)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(entropyd.DeadlineExceededError, match=r"within timeout_s=0\.[45]"):
            asyncio.run(call_by_aio(target)) if by_aio else call(target)
        assert time.monotonic() - began < 5


@both_clients
def test_tls_to_a_server_without_it_is_named(server: LocalServer, call: Callable[..., None]) -> None:
    with pytest.raises(entropyd.UnavailableError, match="it does not speak TLS; connect without TLS"):
        call(server.target, credentials=tls_credentials(), timeout_s=0.5)


def test_the_command_says_that_and_nothing_before_it(server: LocalServer) -> None:
    command = [sys.executable, "-c", "import entropyd_command; entropyd_command.main()"]
    command += ["--server", server.target, "--tls", "--timeout-s", "0.5", "models", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {server.target} cannot be reached: it does not speak TLS")


def test_a_closed_client_says_so_in_every_call(server: LocalServer) -> None:
    client = entropyd.Client(server.target)
    client.server_info()
    iterator = client.models()
    client.close()
    with pytest.raises(entropyd.CancelledError, match="the client is closed"):
        client.model("0" * 64)
    for models in (client.models(), iterator):
        with pytest.raises(entropyd.CancelledError, match="the client is closed"):
            next(models)


def test_a_closed_asynchronous_client_says_so_in_every_call(server: LocalServer) -> None:
    async def call() -> None:
        client = entropyd.aio.Client(server.target)
        await client.server_info()
        iterator = client.models()
        await client.close()
        for use in (client.model("0" * 64), anext(client.models()), anext(iterator)):
            with pytest.raises(entropyd.CancelledError, match="the client is closed"):
                await use

    asyncio.run(call())


def test_a_proxy_of_the_environment_is_for_other_machines(server: LocalServer) -> None:
    proxy = f"http://127.0.0.1:{free_ports(1)[0]}"
    env = {**os.environ, **dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), proxy)}
    subprocess.run([sys.executable, "-c", CALL, server.target], env=env, check=True)


def test_a_connection_to_a_server_may_live_for_ever() -> None:
    with LocalServer("--role", "coding", "--max-connection-age-seconds", "inf") as running:
        info(running.target)


class WithoutTheModel(grpc.GenericRpcHandler):
    """Says that there is no such model, and answers no other call until it is done."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def service(self, details: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        def answer(_: bytes, context: Any) -> bytes:
            if details.method.endswith("/GetModel"):
                status = to_status(entropyd.ModelNotFoundError("no such model"))
                context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
                context.abort(grpc.StatusCode.NOT_FOUND, status.message)
            self.done.wait(60)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.mark.parametrize(
    "command",
    [
        ["models", "create", "--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=1", "--coding-rank", "1"],
        ["bench"],
        ["fit", "--coding-rank", "1", "--prior", "NoisyNormal", "x.npy"],
        ["decompress", "x.entropyd", "restored.npy"],
    ],
    ids=["models create", "bench", "fit", "decompress"],
)
def test_the_command_gives_no_call_more_time_than_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(0, 1, (100, 3)).astype(np.float32))
    archive = archive_bytes(tensor_of([b"a"], (1,), EMBEDDED), model=EMBEDDED)
    Path("x.entropyd").write_bytes(archive)
    handler = WithoutTheModel()
    server = grpc.server(ThreadPoolExecutor(16), handlers=[handler])
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    began = time.monotonic()
    ran = CliRunner().invoke(entropyd_command, ["--server", target, "--timeout-s", "1", *command])
    handler.done.set()
    server.stop(None)
    assert ran.exit_code == 1
    assert f"no answer from {target} within timeout_s=1.0 (DEADLINE)" in ran.stderr
    assert time.monotonic() - began < 10
