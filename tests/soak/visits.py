"""Calls of a server, right and wrong ones; each visit raises if it does not end as it must."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd import priors
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc, types_pb2
from tests.soak.models import Inputs, configs, inputs
from tests.soak.routes import called

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from tests.soak.routes import Route

STREAMED = 10
_POISONED = 3
# Supplied tables: models that churn need no TensorFlow but where it is what churns.
TABLES = (np.array([-4, 0, 3, 16, -4, 0, 1, 2, 16], np.int32), np.array([-1, 5], np.int32))


class Visitor:
    """Makes visits.

    Args:
      target: All servers with the coding role.
      client: Connected to the server that has every role.
      stub: CodingService of a channel without retries to the same server.
      made: The models of `configs` as objects of that client.
      ways: All ways to the same models, on all servers with the coding role.
      damaged: Id of a model whose object is damaged.
      chance: What is done next, and with what.

    Attributes:
      ends: How many visits ended in which way.
      coded: How many round trips each kind of model had, on each route.
    """

    def __init__(
        self,
        target: str,
        client: entropyd.aio.Client,
        stub: Any,
        *,
        made: Sequence[entropyd.aio.Model],
        ways: Sequence[Route],
        damaged: str,
        chance: random.Random,
    ) -> None:
        self._target = target
        self._client = client
        self._stub: coding_pb2_grpc.CodingServiceStub = stub
        self._made = made
        self._routes = ways
        self._damaged = damaged
        self._chance = chance
        self._numbers: Iterator[int] = iter(range(10**9))
        self._configs = configs()
        self._batched = [number for number, config in enumerate(self._configs) if _in_streams(config)]
        # Tables alone have no density.
        self._called = [
            number
            for number, config in enumerate(self._configs)
            if config.kind != entropyd.TabulatedConfig.kind
        ]
        # Of ten visits, about six are what a server is there for.
        self._kinds = {
            self.compress: 40,
            self.agreed: 6,
            self.stream: 6,
            self.archive: 10,
            self.perturb: 6,
            self.poisoned: 6,
            self.corrupt: 6,
            self.cancelled: 8,
            self.closed: 2,
            self.late: 8,
            self.unknown: 4,
            self.damaged: 4,
            self.churned: 4,
            self.refused: 2,
            self.listed: 1,
            self.built: 0.3,
            self.fitted: 0.1,
        }
        self.ends: Counter[str] = Counter()
        self.coded: Counter[tuple[str, str]] = Counter()

    async def visit(self) -> None:
        """Makes one visit of some kind."""
        kind = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        self.ends[await kind() or kind.__name__] += 1

    async def call_all(self) -> None:
        """Bits or gradients of every model that has some, so that a worker has compiled all that it will."""
        for number in self._called:
            await self._perturb(number)

    def _picked(self, numbers: Sequence[int] | None = None) -> tuple[Route, Any, Inputs]:
        """A route, one of its models, and what to code with it."""
        route = self._chance.choice(self._routes)
        number = self._chance.choice(numbers or range(len(self._configs)))
        return route, route.models[number], inputs(self._configs[number], self._chance)

    # What a server is there for

    async def compress(self) -> None:
        """A round trip."""
        route, model, given = self._picked()
        compressed = await called(model.compress, given.x, **given.beside)
        given.check_restored(await called(model.decompress, compressed, **given.beside))
        self.coded[model.config.kind, route.name] += 1

    async def agreed(self) -> None:
        """The same array on two routes, which give the same strings; each decodes the other's."""
        one, other = self._chance.sample(self._routes, 2)
        number = self._chance.randrange(len(self._configs))
        given = inputs(self._configs[number], self._chance)
        models = [one.models[number], other.models[number]]
        first, second = [await called(model.compress, given.x, **given.beside) for model in models]
        assert first.to_message() == second.to_message()
        for model, compressed in zip(models, (second, first), strict=True):
            given.check_restored(await called(model.decompress, compressed, **given.beside))

    async def archive(self) -> None:
        """A round trip through a file, of some coding units."""
        _, model, given = self._picked()
        first = self._chance.randrange(len(given.x))
        with tempfile.NamedTemporaryFile(suffix=".entropyd") as file:
            (await called(model.compress, given.x, **given.beside)).save(file.name)
            loaded = entropyd.CompressedTensor.load(file.name)
        part = given[first:]
        part.check_restored(await called(model.decompress, loaded[first:], **part.beside))

    async def stream(self) -> None:
        """Messages of one stream, one of them bad, and back; it is left at the end or in its midst."""
        number = self._chance.choice(self._batched)
        model, call = self._made[number], self._stub.CompressStream()
        leaves = self._chance.random() < 0.5
        for sent in range(STREAMED):
            x = inputs(self._configs[number], self._chance).x
            if sent == _POISONED:
                x[0, 0, 0] = np.nan
            request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))
            await call.write(coding_pb2.CompressStreamRequest(request_id=str(sent), request=request))
        if leaves:
            call.cancel()
            return
        await call.done_writing()
        answers = [answer async for answer in call]
        codes = {answer.request_id: answer.status.code for answer in answers}
        expected = {str(sent): 3 if sent == _POISONED else 0 for sent in range(STREAMED)}
        assert codes == expected, codes
        await self._streamed_back([each.response.compressed for each in answers if not each.status.code])

    async def _streamed_back(self, compressed: list[types_pb2.CompressedTensor]) -> None:
        call = self._stub.DecompressStream()
        for sent, each in enumerate(compressed):
            request = coding_pb2.DecompressRequest(compressed=each)
            await call.write(coding_pb2.DecompressStreamRequest(request_id=str(sent), request=request))
        await call.done_writing()
        codes = [answer.status.code async for answer in call]
        assert codes == [0] * len(compressed), codes

    async def perturb(self) -> str | None:
        """Bits of a small array; its worker may be killed meanwhile."""
        try:
            await self._perturb(self._chance.choice(self._called))
        except entropyd.UnavailableError:
            return "perturb, worker lost"
        return None

    async def _perturb(self, number: int) -> None:
        """Bits of a model with an even number, and gradients of the others: each is compiled for itself."""
        whole = inputs(self._configs[number], self._chance)[:2]
        x = whole.x[:, :30]
        beside = {name: value[:, :30] for name, value in whole.beside.items()}
        perturbed = await self._made[number].perturb(x, **beside, training=False, gradient=number % 2 == 1)
        assert np.shape(perturbed.bits) == (len(x),)

    # Models that come and go

    async def built(self) -> str | None:
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

    async def fitted(self) -> str | None:
        """A model that is fitted to samples, and deleted again."""
        samples = np.random.default_rng(self._chance.randrange(2**32)).normal(0, 2, (500, 2))
        config = entropyd.ContinuousBatchedConfig(
            prior=priors.NoisyNormal(loc=[0.0, 0.0], scale=[1.0, 1.0]), coding_rank=2
        )
        try:
            made = await self._client.fit_model(config, samples.astype(np.float32), max_steps=20)
        except entropyd.UnavailableError:
            return "fitted, worker lost"
        await self._client.delete_model(made.id)
        return None

    async def churned(self) -> None:
        """A model that comes, gets a name, is used and moved, and goes."""
        number = next(self._numbers)
        name = f"churned-{number}"
        config = entropyd.UniversalBatchedConfig(
            prior=priors.NoisyNormal(float(number), [1.0, 2.0]),
            coding_rank=2,
            num_noise_levels=1,
            range_coder_precision=4,
            tables=TABLES,
        )
        made = await self._client.create_model(config, name=name)
        found = await self._client.model(name)
        given = Inputs(np.zeros((1, 5, 2), np.float32), {})
        given.check_restored(await found.decompress(await made.compress(given.x)))
        exported = await made.export()
        assert await self._client.unname_model(name) == made.id
        await self._client.delete_model(made.id)
        assert (await self._client.import_model(exported)).id == made.id
        await self._client.delete_model(made.id)

    async def listed(self) -> None:
        """All models."""
        found = {listed.id async for listed in self._client.models()}
        assert {each.id for each in self._made} <= found

    # What fails

    async def refused(self) -> None:
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

    async def poisoned(self) -> None:
        """An array with an element that cannot be coded."""
        _, model, given = self._picked()
        given.x[-1, -1, -1] = np.inf
        with pytest.raises(entropyd.InvalidTensorError):
            await called(model.compress, given.x, **given.beside)

    async def corrupt(self) -> None:
        """Strings of which a bit was flipped."""
        _, model, given = self._picked()
        message = (await called(model.compress, given.x, **given.beside)).to_message()
        payload = bytearray(message.payload)
        payload[self._chance.randrange(len(payload))] ^= 1 << self._chance.randrange(8)
        message.payload = bytes(payload)
        with pytest.raises(entropyd.CorruptStringError):
            await called(model.decompress, entropyd.CompressedTensor.from_message(message), **given.beside)

    async def unknown(self) -> None:
        """A model that nobody made."""
        _, model, given = self._picked()
        with pytest.raises(entropyd.ModelNotFoundError):
            await self._of_another_id(model, f"{self._chance.getrandbits(256):064x}", given)

    async def damaged(self) -> None:
        """A model whose object is damaged."""
        _, model, given = self._picked()
        with pytest.raises(entropyd.DataLossError):
            await self._of_another_id(model, self._damaged, given)

    async def _of_another_id(self, model: Any, model_id: str, given: Inputs) -> None:
        other = type(model)(model._session, replace(model.info, id=model_id))
        await called(other.compress, given.x, **given.beside)

    # Callers that leave

    async def cancelled(self) -> None:
        """A call that its caller leaves."""
        number = self._chance.randrange(len(self._configs))
        given = inputs(self._configs[number], self._chance)
        calling = asyncio.ensure_future(self._made[number].compress(given.x, **given.beside))
        await asyncio.sleep(self._chance.random() / 100)
        calling.cancel()
        await asyncio.wait([calling])

    async def closed(self) -> str | None:
        """A call of a blocking client that is closed meanwhile."""
        number = self._chance.randrange(len(self._configs))
        given = inputs(self._configs[number], self._chance)
        with entropyd.Client(self._target) as client:
            model = entropyd.Model(client._session, self._made[number].info)
            calling = asyncio.ensure_future(called(model.compress, given.x, **given.beside))
            await asyncio.sleep(self._chance.random() / 50)
            await asyncio.to_thread(client.close)
            try:
                await calling
            except entropyd.CancelledError:
                return None
        return "closed, in time"

    async def late(self) -> str | None:
        """A call whose time may pass."""
        _, model, given = self._picked()
        timeout_s = self._chance.random() / 50
        try:
            await called(model.compress, given.x, **given.beside, timeout_s=timeout_s)
        except entropyd.DeadlineExceededError:
            return None
        return "late, in time"


def _in_streams(config: Any) -> bool:
    """Whether an array is all that a request for it has."""
    return config.index_ranges is None and config.kind != entropyd.PowerLawConfig.kind
