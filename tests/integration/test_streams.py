"""CompressStream and DecompressStream against a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import entropyd
    from entropyd_server.local import LocalServer


def array(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(number).normal(0, 3, (1 + number % 3, 5, 3)).astype(np.float32)


def compress_message(
    model: entropyd.Model, number: int, *, poisoned: bool = False
) -> coding_pb2.CompressStreamRequest:
    x = array(number)
    if poisoned:
        x[0, 0, 0] = np.nan
    request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))
    return coding_pb2.CompressStreamRequest(request_id=str(number), request=request)


def test_every_message_gets_its_own_answer_and_bad_ones_end_nothing(
    server: LocalServer, model: entropyd.Model
) -> None:
    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)

            async def messages() -> AsyncIterator[coding_pb2.CompressStreamRequest]:
                for number in range(300):
                    yield compress_message(model, number, poisoned=number % 10 == 7)

            answers = {answer.request_id: answer async for answer in stub.CompressStream(messages())}
            assert set(answers) == {str(number) for number in range(300)}
            good = []
            for number in range(300):
                answer = answers[str(number)]
                if number % 10 == 7:
                    assert answer.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
                    assert answer.status.reason == "INVALID_TENSOR"
                    assert "NaN" in answer.status.message
                    assert not answer.HasField("response")
                else:
                    assert answer.status.code == 0
                    good.append((number, answer.response.compressed))

            async def strings() -> AsyncIterator[coding_pb2.DecompressStreamRequest]:
                for number, compressed in good:
                    request = coding_pb2.DecompressRequest(compressed=compressed)
                    yield coding_pb2.DecompressStreamRequest(request_id=str(number), request=request)

            restored = {
                int(answer.request_id): np.frombuffer(answer.response.tensor.data, np.float32)
                async for answer in stub.DecompressStream(strings())
            }
            assert set(restored) == {number for number, _ in good}
            for number, values in restored.items():
                assert np.abs(values - array(number).reshape(-1)).max() <= 0.5 + 1e-6

    asyncio.run(main())


def test_a_stream_that_is_cancelled_leaves_the_server_serving(
    server: LocalServer, model: entropyd.Model
) -> None:
    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            for _ in range(20):
                call = stub.CompressStream()
                for number in range(10):
                    await call.write(compress_message(model, number))
                assert await call.read() is not grpc.aio.EOF
                call.cancel()
        assert model.compress(array(0)).strings.shape == (1,)

    asyncio.run(main())


def test_half_close_is_answered_with_all_that_is_left(server: LocalServer, model: entropyd.Model) -> None:
    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            call = coding_pb2_grpc.CodingServiceStub(channel).CompressStream()
            for number in range(5):
                await call.write(compress_message(model, number))
            await call.done_writing()
            assert len([answer async for answer in call]) == 5
            assert await call.code() == grpc.StatusCode.OK

    asyncio.run(main())
