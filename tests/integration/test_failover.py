"""Servers on one store behind a client that takes turns: losing or restarting one costs nobody an answer."""

from __future__ import annotations

import asyncio
import queue
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from entropyd._channel import to_error
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.load import under_load

if TYPE_CHECKING:
    import entropyd
    from tests.support.replicas import Replica


@pytest.fixture
def target(replicas: list[Replica]) -> str:
    """A target that names all replicas."""
    return f"ipv4:{','.join(replica.address for replica in replicas)}"


# A response to the second shape is larger than a megabyte: it is on its way for some time.
@pytest.mark.parametrize(("batch_shape", "answers"), [((3, 40), 500), ((1, 100_000), 30)])
def test_a_killed_server_costs_no_answer(
    replicas: list[Replica],
    target: str,
    model: entropyd.Model,
    batch_shape: tuple[int, ...],
    answers: int,
) -> None:
    async def main() -> None:
        async with under_load([model], target, batch_shape) as load:
            await load.answers(answers)
            replicas[0].kill()
            await load.answers(2 * answers)

    asyncio.run(main())


def test_a_rolling_restart_fails_no_call(replicas: list[Replica], target: str, model: entropyd.Model) -> None:
    async def main() -> None:
        async with under_load([model], target) as load:
            for replica in replicas:
                await load.answers(100)
                await asyncio.to_thread(replica.restart)
                # The new process has an empty cache; the next one goes only once this one has work again.
                await asyncio.to_thread(replica.wait_for_calls)

    asyncio.run(main())


def test_calls_that_reach_a_server_in_its_last_moment_are_told_to_come_again(
    store_url: str, model: entropyd.Model
) -> None:
    x = np.zeros((1, 40, 3), np.float32)
    request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))

    async def main(running: LocalServer) -> list[str]:
        # Without retries, health or another server to go to: what each caller was told at last.
        async with grpc.aio.insecure_channel(running.target, [("grpc.enable_retries", 0)]) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            busy = asyncio.Event()

            async def caller() -> str:
                while True:
                    try:
                        await stub.Compress(request)
                    except grpc.aio.AioRpcError as failure:
                        return to_error(failure).reason
                    busy.set()

            callers = [asyncio.ensure_future(caller()) for _ in range(32)]
            await busy.wait()
            running.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*callers)

    with LocalServer("--role", "coding", "--drain-seconds", "1", store=store_url) as running:
        assert set(asyncio.run(main(running))) == {"DRAINING"}


def test_a_second_signal_ends_a_drain_at_once(store_url: str) -> None:
    with LocalServer("--role", "coding", "--drain-seconds", "600", store=store_url) as running:
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(timeout=1)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=30) == 0


def test_a_second_signal_ends_calls_in_hand_too(store_url: str) -> None:
    messages: queue.Queue[coding_pb2.CompressStreamRequest] = queue.Queue()
    messages.put(coding_pb2.CompressStreamRequest(request_id="is answered, so the call is in hand"))
    with LocalServer("--role", "coding", store=store_url) as running:
        with grpc.insecure_channel(running.target) as channel:
            stream = coding_pb2_grpc.CodingServiceStub(channel).CompressStream(iter(messages.get, None))
            assert next(stream).status.reason == "INVALID_REQUEST"
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                running.process.wait(timeout=1)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(timeout=10) == 0
            assert stream.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
