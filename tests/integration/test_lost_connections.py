"""Connections that end while a response arrives: both clients, before servers on both transports."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd_server.local import LocalServer
from entropyd_server.transport.transports import AIO, CORE
from tests.support.load import free_ports
from tests.support.nginx import start_nginx
from tests.support.stored_models import CHANNELS, put_model
from tests.support.tcp_gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Array: TypeAlias = np.ndarray[Any, Any]

# An array that is sent in chunks.
UNITS = np.arange(24 * 20_000 * CHANNELS, dtype=np.float32).reshape(24, 20_000, CHANNELS) % 3
# One coding unit is sent in one message.
UNIT = UNITS.reshape(1, -1, CHANNELS)
# In the middle of the response that restores either, or a chunk.
MIDDLE_BYTES = 500_000


@pytest.fixture(scope="module", params=[CORE, AIO])
def coding(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[tuple[str, int], entropyd.ModelInfo]]:
    """The address of a server that codes, and its model."""
    store = tmp_path_factory.mktemp("store").as_uri()
    info = put_model(store)
    address = ("127.0.0.1", free_ports(1)[0])
    flags = ("--role", "coding", "--transport", request.param)
    with LocalServer(*flags, listen="{}:{}".format(*address), store=store):
        yield address, info


def blocking(
    target: str, info: entropyd.ModelInfo, x: Array, cut: Callable[[], None], **options: Any
) -> Array:
    """Restores an array by calls that begin after `cut`."""
    with entropyd.Client(target) as client:
        model = entropyd.Model(client._session, info)
        compressed = model.compress(x)
        cut()
        restored: Array = model.decompress(compressed, **options)
        return restored


def asynchronous(
    target: str, info: entropyd.ModelInfo, x: Array, cut: Callable[[], None], **options: Any
) -> Array:
    """As `blocking`."""

    async def restore() -> Array:
        async with entropyd.aio.Client(target) as client:
            model = entropyd.aio.Model(client._session, info)
            compressed = await model.compress(x)
            cut()
            restored: Array = await model.decompress(compressed, **options)
            return restored

    return asyncio.run(restore())


both_clients = pytest.mark.parametrize("decompress", [blocking, asynchronous])


@both_clients
def test_a_response_that_breaks_off_is_asked_for_again(
    coding: tuple[tuple[str, int], entropyd.ModelInfo], decompress: Callable[..., Array]
) -> None:
    behind, info = coding
    with Gate(behind) as gate:
        target = "{}:{}".format(*gate.address)
        restored = decompress(target, info, UNIT, lambda: gate.cut(1, MIDDLE_BYTES))
        assert gate.cuts == 0
    np.testing.assert_array_equal(restored, UNIT)


def test_a_response_that_breaks_off_behind_a_proxy_is_asked_for_again(
    coding: tuple[tuple[str, int], entropyd.ModelInfo], tmp_path: Path
) -> None:
    behind, info = coding
    with Gate(behind) as gate:
        address = "{}:{}".format(*gate.address)
        with start_nginx(tmp_path, [address], address) as target:
            restored = blocking(target, info, UNIT, lambda: gate.cut(1, MIDDLE_BYTES))
        assert gate.cuts == 0
    np.testing.assert_array_equal(restored, UNIT)


@both_clients
def test_of_a_large_array_only_the_chunks_that_broke_off_are_asked_for_again(
    coding: tuple[tuple[str, int], entropyd.ModelInfo], decompress: Callable[..., Array]
) -> None:
    behind, info = coding
    done: list[int] = []
    with Gate(behind) as gate:
        target = "{}:{}".format(*gate.address)
        restored = decompress(
            target,
            info,
            UNITS,
            lambda: gate.cut(1, MIDDLE_BYTES),
            progress=lambda units, _: done.append(units),
        )
        assert gate.cuts == 0
    np.testing.assert_array_equal(restored, UNITS)
    assert len(done) > 1
    assert done == sorted(set(done))


@both_clients
def test_a_response_that_breaks_off_twice_is_an_error_that_says_so(
    coding: tuple[tuple[str, int], entropyd.ModelInfo], decompress: Callable[..., Array]
) -> None:
    behind, info = coding
    with Gate(behind) as gate:
        target = "{}:{}".format(*gate.address)
        with pytest.raises(entropyd.UnavailableError) as caught:
            decompress(target, info, UNIT, lambda: gate.cut(2, MIDDLE_BYTES))
        assert gate.cuts == 0
    said = str(caught.value)
    assert said.startswith(f"the connection to {target} was lost before the response was complete: ")
    assert "TLS" not in said


class Deleting(grpc.GenericRpcHandler):
    """Answers deletions with a large response, and counts them."""

    def __init__(self) -> None:
        self.deletions = 0

    def service(self, details: Any) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if not details.method.endswith("/DeleteModel"):
            return None
        self.deletions += 1
        return grpc.unary_unary_rpc_method_handler(lambda *_: bytes(2 * MIDDLE_BYTES))


def test_a_call_that_is_not_idempotent_is_made_once() -> None:
    handler = Deleting()
    server = grpc.server(ThreadPoolExecutor(), [handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Gate(("127.0.0.1", port)) as gate, entropyd.Client("{}:{}".format(*gate.address)) as client:
            gate.cut(1, MIDDLE_BYTES)
            with pytest.raises(entropyd.UnavailableError, match="was lost before the response was complete"):
                client.delete_model("0" * 64)
        assert handler.deletions == 1
    finally:
        server.stop(None)
