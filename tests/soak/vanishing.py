"""`python -m tests.soak.vanishing TARGET MODEL_ID`: keeps calls and streams open until it is killed.

It prints a line once it has had a response, and still has calls in flight then.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

import entropyd.aio
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from tests.soak.routes import unretried

_CALLERS = 4


async def main(target: str, model_id: str) -> None:
    """Calls forever, with a model by position."""
    async with entropyd.aio.Client(target) as client, unretried(target) as channel:
        model = await client.model(model_id)
        x = np.zeros((8, 2000, *model.prior_shape), model.bottleneck_dtype)
        stream = coding_pb2_grpc.CodingServiceStub(channel).CompressStream()
        request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))
        await stream.write(coding_pb2.CompressStreamRequest(request_id="0", request=request))

        async def call() -> None:
            while True:
                await model.compress(x)

        callers = [asyncio.create_task(call()) for _ in range(_CALLERS)]
        await stream.read()
        print(flush=True)  # noqa: T201 - what its parent waits for
        await asyncio.gather(*callers)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
