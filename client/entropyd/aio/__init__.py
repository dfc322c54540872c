"""The asynchronous client: `entropyd.aio.Client` is `entropyd.Client` with awaitables and async iterators.

async with entropyd.aio.Client("localhost:7070") as client:
    model = await client.create_model(config)
    compressed = await model.compress(x)
    restored = await model.decompress(compressed)
"""

from entropyd.aio._client import Client
from entropyd.aio._model import Model

__all__ = ["Client", "Model"]
