"""Calls that fail, and callers that leave; each operation raises if it does not end as it must."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
from entropyd import priors
from tests.soak.routes import called
from tests.soak.scene import TABLES, Scene

if TYPE_CHECKING:
    from tests.soak.models import Inputs


class Faults:
    """Operations that end in an error, or before they are answered."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

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
            await self._scene.client.create_model(config)

    async def poisoned(self) -> None:
        """An array with an element that cannot be coded."""
        _, model, given = self._scene.picked()
        given.x[-1, -1, -1] = np.inf
        with pytest.raises(entropyd.InvalidTensorError):
            await called(model.compress, given.x, **given.beside)

    async def corrupt(self) -> None:
        """Strings of which a bit was flipped."""
        _, model, given = self._scene.picked()
        message = (await called(model.compress, given.x, **given.beside)).to_message()
        payload = bytearray(message.payload)
        payload[self._scene.chance.randrange(len(payload))] ^= 1 << self._scene.chance.randrange(8)
        message.payload = bytes(payload)
        with pytest.raises(entropyd.CorruptStringError):
            await called(model.decompress, entropyd.CompressedTensor.from_message(message), **given.beside)

    async def unknown(self) -> None:
        """A model that nobody made."""
        _, model, given = self._scene.picked()
        with pytest.raises(entropyd.ModelNotFoundError):
            await self._of_another_id(model, f"{self._scene.chance.getrandbits(256):064x}", given)

    async def damaged(self) -> None:
        """A model whose object is damaged."""
        _, model, given = self._scene.picked()
        with pytest.raises(entropyd.DataLossError):
            await self._of_another_id(model, self._scene.damaged, given)

    async def _of_another_id(self, model: Any, model_id: str, given: Inputs) -> None:
        other = type(model)(model._session, replace(model.info, id=model_id))
        await called(other.compress, given.x, **given.beside)

    # Callers that leave

    async def cancelled(self) -> None:
        """A call that its caller leaves."""
        made, given = self._scene.made_inputs()
        calling = asyncio.ensure_future(made.compress(given.x, **given.beside))
        await asyncio.sleep(self._scene.chance.random() / 100)
        calling.cancel()
        await asyncio.wait([calling])

    async def closed(self) -> str | None:
        """A call of a blocking client that is closed meanwhile."""
        made, given = self._scene.made_inputs()
        with entropyd.Client(self._scene.target) as client:
            model = entropyd.Model(client._session, made.info)
            calling = asyncio.ensure_future(called(model.compress, given.x, **given.beside))
            await asyncio.sleep(self._scene.chance.random() / 50)
            await asyncio.to_thread(client.close)
            try:
                await calling
            except entropyd.CancelledError:
                return None
        return "closed, in time"

    async def late(self) -> str | None:
        """A call whose time may pass."""
        _, model, given = self._scene.picked()
        timeout_s = self._scene.chance.random() / 50
        try:
            await called(model.compress, given.x, **given.beside, timeout_s=timeout_s)
        except entropyd.DeadlineExceededError:
            return None
        return "late, in time"
