"""Laws of health: a service that is starting is refused with a time to come again, and draining is final."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entropyd_server.rpc.health import Health
from tests.support.transports import new_server, run

pytestmark = pytest.mark.usefixtures("each_transport")

CODING, MODELS = "entropyd.v1.CodingService", "entropyd.v1.ModelService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_starting_service_is_unready_and_says_when_to_come_again() -> None:
    health = Health([CODING, MODELS])
    error = health.unready(CODING)
    assert error is not None
    assert error.reason == "STARTING"
    assert error.retry_after_s is not None
    assert health.unready("grpc.health.v1.Health") is None


def test_health_over_the_wire_says_serving_only_between_start_and_drain() -> None:
    async def scenario() -> None:
        server = new_server()
        port = server.add_insecure_port("127.0.0.1:0")
        health = Health([CODING, MODELS])
        server.add(health.methods())
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def statuses() -> list[int]:
                replies = [
                    await stub.Check(health_pb2.HealthCheckRequest(service=name))
                    for name in ("", CODING, MODELS)
                ]
                return [reply.status for reply in replies]

            assert await statuses() == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
            await health.serving(CODING)
            assert await statuses() == [NOT_SERVING, SERVING, NOT_SERVING]
            assert health.unready(CODING) is None
            assert health.unready(MODELS) is not None
            assert health.states == {CODING: "SERVING", MODELS: "STARTING"}
            await health.serving(MODELS)
            assert await statuses() == [SERVING, SERVING, SERVING]
            await health.drain()
            assert set(health.states.values()) == {"DRAINING"}
            assert await statuses() == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
            await health.serving(CODING)
            assert await statuses() == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
            assert health.unready(CODING) is None
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(scenario())


def test_a_watcher_that_leaves_takes_nothing_from_the_others() -> None:
    async def scenario() -> None:
        server = new_server()
        port = server.add_insecure_port("127.0.0.1:0")
        health = Health([CODING])
        server.add(health.methods())
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            stays, leaves = (stub.Watch(health_pb2.HealthCheckRequest(service=CODING)) for _ in range(2))
            assert [(await watch.read()).status for watch in (stays, leaves)] == [NOT_SERVING] * 2
            leaves.cancel()
            # The server has seen it leave once a later call on the connection is answered.
            await stub.Check(health_pb2.HealthCheckRequest(service=CODING))
            await health.serving(CODING)
            assert (await asyncio.wait_for(stays.read(), 60)).status == SERVING
            await health.drain()
            assert (await asyncio.wait_for(stays.read(), 60)).status == NOT_SERVING
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="no.such.Service"))
            assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(scenario())
