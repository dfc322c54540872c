"""Laws of the gate: what it refuses costs its headers, and nobody else anything."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from entropyd.contract.errors import OverloadedError
from entropyd_server.metrics import Metrics
from entropyd_server.observe.call_log import CallLog
from entropyd_server.rpc.boundary import Boundary
from entropyd_server.security.access import METHOD_SCOPES, Access
from entropyd_server.security.gate import Admission, Gate
from entropyd_server.transport.server import Server
from entropyd_server.transport.turns import run

_BUSY, _IDLE = "/entropyd.v1.CodingService/Compress", "/entropyd.v1.InfoService/GetServerInfo"
assert {_BUSY, _IDLE} <= METHOD_SCOPES.keys()


async def answer(message: Empty, context: Any) -> Empty:
    return message


class Handlers(grpc.GenericRpcHandler):
    """Answers whatever is called."""

    def service(self, call: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=Empty.FromString)


def test_a_busy_method_is_refused_before_its_message_comes_while_others_are_answered() -> None:
    patience: list[float | None] = []

    def admit(timeout_s: float | None) -> None:
        patience.append(timeout_s)
        if len(patience) == 1:
            raise OverloadedError("too much", retry_after_s=0.25)

    async def main() -> None:
        metrics, server = Metrics("test"), Server()
        boundary = Boundary(metrics, CallLog(), lambda name: None)
        # One call at a time: one that is refused must not stay in hand.
        gate = Gate(server, boundary.refuse, Admission(Access(None), 1, {_BUSY: admit}).refusal)
        gate.add_generic_rpc_handlers([Handlers()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            # Its message is never sent.
            unsent: Any = channel.stream_unary(_BUSY)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unsent(timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert dict(tuple(caught.value.trailing_metadata() or ()))["grpc-retry-pushback-ms"] == "250"
            idle: Any = channel.unary_unary(_IDLE)
            assert await idle(b"") == b""
            again: Any = channel.unary_unary(_BUSY)
            assert await again(b"") == b""
        assert metrics.methods["Compress"].calls_by_code["RESOURCE_EXHAUSTED"] == 1
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(main())
    first, second = patience
    assert first is not None
    assert 30 < first < 61
    assert second is None
