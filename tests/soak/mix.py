"""The operations of a soak, right and wrong ones in random order; each raises unless it ends as it must."""

from __future__ import annotations

import tempfile
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

import entropyd
from entropyd import priors
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, types_pb2
from tests.soak.faults import Faults
from tests.soak.models import Inputs, inputs
from tests.soak.routes import called
from tests.soak.scene import TABLES, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMED = 10
_POISONED = 3


class Mix:
    """Runs operations that are drawn at random, six in ten of which are what a server is there for.

    Attributes:
      ends: How many operations ended in which way.
      coded: How many round trips each kind of model had, on each route.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._numbers: Iterator[int] = iter(range(10**9))
        numbered = list(enumerate(scene.configs))
        # An array is all that a request for these has.
        self._streamed = [
            number
            for number, config in numbered
            if config.index_ranges is None and config.kind != entropyd.PowerLawConfig.kind
        ]
        # Tables alone have no density.
        self._called = [number for number, config in numbered if config.kind != entropyd.TabulatedConfig.kind]
        faults = Faults(scene)
        self._kinds = {
            self.compress: 40,
            self.agreed: 6,
            self.stream: 6,
            self.archive: 10,
            self.perturb: 6,
            self.churned: 4,
            self.listed: 1,
            self.built: 0.3,
            self.fitted: 0.1,
            faults.poisoned: 6,
            faults.corrupt: 6,
            faults.cancelled: 8,
            faults.closed: 2,
            faults.late: 8,
            faults.unknown: 4,
            faults.damaged: 4,
            faults.refused: 2,
        }
        self.ends: Counter[str] = Counter()
        self.coded: Counter[tuple[str, str]] = Counter()

    async def run_one(self) -> None:
        """Draws an operation and runs it."""
        kind = self._scene.chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        self.ends[await kind() or kind.__name__] += 1

    async def call_all(self) -> None:
        """Bits or gradients of every model that has some, so that a worker has compiled all that it will."""
        for number in self._called:
            await self._perturb(number)

    # Coding

    async def compress(self) -> None:
        """A round trip."""
        route, model, given = self._scene.picked()
        compressed = await called(model.compress, given.x, **given.beside)
        given.check_restored(await called(model.decompress, compressed, **given.beside))
        self.coded[model.config.kind, route.name] += 1

    async def agreed(self) -> None:
        """The same array on two routes, which give the same strings; each decodes the other's."""
        one, other = self._scene.chance.sample(self._scene.routes, 2)
        number = self._scene.chance.randrange(len(self._scene.configs))
        given = inputs(self._scene.configs[number], self._scene.chance)
        models = [one.models[number], other.models[number]]
        first, second = [await called(model.compress, given.x, **given.beside) for model in models]
        assert first.to_message() == second.to_message()
        for model, compressed in zip(models, (second, first), strict=True):
            given.check_restored(await called(model.decompress, compressed, **given.beside))

    async def archive(self) -> None:
        """A round trip through a file, of some coding units."""
        _, model, given = self._scene.picked()
        first = self._scene.chance.randrange(len(given.x))
        with tempfile.NamedTemporaryFile(suffix=".entropyd") as file:
            (await called(model.compress, given.x, **given.beside)).save(file.name)
            loaded = entropyd.CompressedTensor.load(file.name)
        part = given[first:]
        part.check_restored(await called(model.decompress, loaded[first:], **part.beside))

    async def stream(self) -> None:
        """Messages of one stream, one of them bad, and back; it is left at the end or in its midst."""
        number = self._scene.chance.choice(self._streamed)
        model, call = self._scene.made[number], self._scene.stub.CompressStream()
        leaves = self._scene.chance.random() < 0.5
        for sent in range(STREAMED):
            x = inputs(self._scene.configs[number], self._scene.chance).x
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
        call = self._scene.stub.DecompressStream()
        for sent, each in enumerate(compressed):
            request = coding_pb2.DecompressRequest(compressed=each)
            await call.write(coding_pb2.DecompressStreamRequest(request_id=str(sent), request=request))
        await call.done_writing()
        codes = [answer.status.code async for answer in call]
        assert codes == [0] * len(compressed), codes

    # Bits

    async def perturb(self) -> str | None:
        """Bits of a small array; its worker may be killed meanwhile."""
        try:
            await self._perturb(self._scene.chance.choice(self._called))
        except entropyd.UnavailableError:
            return "perturb, worker lost"
        return None

    async def _perturb(self, number: int) -> None:
        """Bits of a model with an even number, and gradients of the others: each is compiled for itself."""
        whole = inputs(self._scene.configs[number], self._scene.chance)[:2]
        x = whole.x[:, :30]
        beside = {name: value[:, :30] for name, value in whole.beside.items()}
        perturbed = await self._scene.made[number].perturb(
            x, **beside, training=False, gradient=number % 2 == 1
        )
        assert np.shape(perturbed.bits) == (len(x),)

    # Models that come and go

    async def built(self) -> str | None:
        """A model whose tables a worker builds, and that is deleted again."""
        prior = priors.NoisyNormal(loc=0.0, scale=[1.0, self._scene.chance.uniform(1, 3)])
        try:
            made = await self._scene.client.create_model(
                entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2, num_noise_levels=1)
            )
        except entropyd.UnavailableError:
            return "built, worker lost"
        await self._scene.client.delete_model(made.id)
        return None

    async def fitted(self) -> str | None:
        """A model that is fitted to samples, and deleted again."""
        samples = np.random.default_rng(self._scene.chance.randrange(2**32)).normal(0, 2, (500, 2))
        config = entropyd.ContinuousBatchedConfig(
            prior=priors.NoisyNormal(loc=[0.0, 0.0], scale=[1.0, 1.0]), coding_rank=2
        )
        try:
            made = await self._scene.client.fit_model(config, samples.astype(np.float32), max_steps=20)
        except entropyd.UnavailableError:
            return "fitted, worker lost"
        await self._scene.client.delete_model(made.id)
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
        made = await self._scene.client.create_model(config, name=name)
        found = await self._scene.client.model(name)
        given = Inputs(np.zeros((1, 5, 2), np.float32), {})
        given.check_restored(await found.decompress(await made.compress(given.x)))
        exported = await made.export()
        assert await self._scene.client.unname_model(name) == made.id
        await self._scene.client.delete_model(made.id)
        assert (await self._scene.client.import_model(exported)).id == made.id
        await self._scene.client.delete_model(made.id)

    async def listed(self) -> None:
        """All models."""
        found = {listed.id async for listed in self._scene.client.models()}
        assert {each.id for each in self._scene.made} <= found
