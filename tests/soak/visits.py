"""Calls of a server, right and wrong ones; each visit raises if it does not end as it must."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd import priors
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    import numpy.typing as npt

LENGTHS = (1, 30, 400, 6000)
STREAMED = 10
# Supplied tables: models that churn need no TensorFlow but where it is what churns.
TABLES = (np.array([-4, 0, 3, 16, -4, 0, 1, 2, 16], np.int32), np.array([-1, 5], np.int32))


class Visitor:
    """Makes visits.

    Args:
      client: Connected to the server.
      stub: CodingService of a channel without retries to the same server.
      models: Models that stay, each with a prior_shape of one axis and coding_rank 2.
      damaged: Id of a model whose object is damaged.
      chance: What is done next, and with what.

    Attributes:
      ends: How many visits ended in which way.
    """

    def __init__(
        self,
        client: entropyd.aio.Client,
        stub: Any,
        models: list[entropyd.aio.Model],
        damaged: str,
        chance: random.Random,
    ) -> None:
        self._client = client
        self._stub: coding_pb2_grpc.CodingServiceStub = stub
        self._models = models
        self._damaged = damaged
        self._chance = chance
        self._numbers: Iterator[int] = iter(range(10**9))
        # Of ten visits, about six are what a server is there for.
        self._kinds = {
            self.compress: 40,
            self.stream: 6,
            self.archive: 10,
            self.perturb: 6,
            self.poisoned: 6,
            self.corrupt: 6,
            self.cancelled: 8,
            self.late: 8,
            self.unknown: 4,
            self.damaged: 4,
            self.churned: 4,
            self.refused: 2,
            self.listed: 1,
            self.built: 0.3,
        }
        self.ends: Counter[str] = Counter()

    async def visit(self) -> None:
        """Makes one visit of some kind."""
        kind = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        model = self._chance.choice(self._models)
        self.ends[await kind(model) or kind.__name__] += 1

    def _array(self, model: entropyd.aio.Model) -> npt.NDArray[Any]:
        units, length = self._chance.randint(1, 8), self._chance.choice(LENGTHS)
        rng = np.random.default_rng(self._chance.randrange(2**32))
        return rng.normal(0, 3, (units, length, *model.prior_shape)).astype(model.bottleneck_dtype)

    async def compress(self, model: entropyd.aio.Model) -> None:
        """A round trip."""
        x = self._array(model)
        _check_close(x, await model.decompress(await model.compress(x)))

    async def archive(self, model: entropyd.aio.Model) -> None:
        """A round trip through a file, of some coding units."""
        x = self._array(model)
        first = self._chance.randrange(len(x))
        with tempfile.NamedTemporaryFile(suffix=".entropyd") as file:
            (await model.compress(x)).save(file.name)
            loaded = entropyd.CompressedTensor.load(file.name)
        _check_close(x[first:], await model.decompress(loaded[first:]))

    async def stream(self, model: entropyd.aio.Model) -> None:
        """Messages of one stream, one of them bad; the stream is left at the end or in its midst."""
        call = self._stub.CompressStream()
        leaves = self._chance.random() < 0.5
        for number in range(STREAMED):
            x = self._array(model)
            if number == 3:
                x[0, 0, 0] = np.nan
            request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))
            await call.write(coding_pb2.CompressStreamRequest(request_id=str(number), request=request))
        if leaves:
            call.cancel()
            return
        await call.done_writing()
        codes = {answer.request_id: answer.status.code async for answer in call}
        expected = {str(number): 3 if number == 3 else 0 for number in range(STREAMED)}
        assert codes == expected, codes

    async def perturb(self, model: entropyd.aio.Model) -> str | None:
        """Bits of a small array; its worker may be killed meanwhile."""
        x = self._array(model)[:2, :30]
        try:
            _, bits = await model(x, training=False)
        except entropyd.UnavailableError:
            return "perturb, worker lost"
        assert np.shape(bits) == (len(x),)
        return None

    async def built(self, model: entropyd.aio.Model) -> str | None:
        """A model whose tables a worker builds, and that is deleted again."""
        prior = priors.NoisyNormal(loc=0.0, scale=[1.0, self._chance.uniform(1, 3)])
        try:
            made = await self._client.create_model(
                entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2, num_noise_levels=1)
            )
        except entropyd.UnavailableError:
            return "built, worker lost"
        await self._client.delete_model(made.id)
        return None

    async def churned(self, model: entropyd.aio.Model) -> None:
        """A model that comes, is used, and goes."""
        made = await self._client.create_model(
            entropyd.UniversalBatchedConfig(
                prior=priors.NoisyNormal(float(next(self._numbers)), [1.0, 2.0]),
                coding_rank=2,
                num_noise_levels=1,
                range_coder_precision=4,
                tables=TABLES,
            )
        )
        x = np.zeros((1, 5, 2), np.float32)
        _check_close(x, await made.decompress(await made.compress(x)))
        await self._client.delete_model(made.id)

    async def refused(self, model: entropyd.aio.Model) -> None:
        """A configuration that the server refuses, for its tables do not fit it."""
        config = entropyd.UniversalBatchedConfig(
            prior=priors.NoisyNormal(0.0, [1.0, 2.0, 3.0]),
            coding_rank=2,
            num_noise_levels=1,
            range_coder_precision=4,
            tables=TABLES,
        )
        with pytest.raises(entropyd.InvalidConfigError):
            await self._client.create_model(config)

    async def listed(self, model: entropyd.aio.Model) -> None:
        """All models."""
        found = {listed.id async for listed in self._client.models()}
        assert {each.id for each in self._models} <= found

    async def poisoned(self, model: entropyd.aio.Model) -> None:
        """An array with an element that cannot be coded."""
        x = self._array(model)
        x[-1, -1, -1] = np.inf
        with pytest.raises(entropyd.InvalidTensorError):
            await model.compress(x)

    async def corrupt(self, model: entropyd.aio.Model) -> None:
        """A bit string that was tampered with."""
        x = self._array(model)
        strings = (await model.compress(x)).strings.copy()
        strings[0] += b"more"
        with pytest.raises(entropyd.CorruptStringError):
            await model.decompress(strings, x.shape[1:2])

    async def unknown(self, model: entropyd.aio.Model) -> None:
        """A model that nobody made."""
        info = replace(model.info, id=f"{self._chance.getrandbits(256):064x}")
        with pytest.raises(entropyd.ModelNotFoundError):
            await entropyd.aio.Model(self._client._session, info).compress(self._array(model))

    async def damaged(self, model: entropyd.aio.Model) -> None:
        """A model whose object is damaged."""
        info = replace(model.info, id=self._damaged)
        with pytest.raises(entropyd.DataLossError):
            await entropyd.aio.Model(self._client._session, info).compress(self._array(model))

    async def cancelled(self, model: entropyd.aio.Model) -> None:
        """A call that its caller leaves."""
        calling = asyncio.ensure_future(model.compress(self._array(model)))
        await asyncio.sleep(self._chance.random() / 100)
        calling.cancel()
        await asyncio.wait([calling])

    async def late(self, model: entropyd.aio.Model) -> str | None:
        """A call whose time may pass."""
        try:
            await model.compress(self._array(model), timeout_s=self._chance.random() / 50)
        except entropyd.DeadlineExceededError:
            return None
        return "late, in time"


def unretried(target: str) -> grpc.aio.Channel:
    """A channel on which the first failure is seen."""
    return grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)])


def _check_close(x: npt.NDArray[Any], restored: npt.NDArray[Any]) -> None:
    assert restored.shape == x.shape
    assert np.abs(restored.astype(np.float64) - x.astype(np.float64)).max() <= 0.52
