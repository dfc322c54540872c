"""Stores new models, and limits how many each caller may have.

Invariant: a caller of one server never exceeds its quota. The store keeps the count, so it survives restarts.
Replicas that create models for one caller at the same time may each grant the last place, and a model is not
counted if the store fails after it was stored and before it was counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from entropyd.contract.config import ModelConfig
from entropyd_server.coding.tables import CodingTables
from entropyd_server.errors import limit_exceeded
from entropyd_server.store.model_store import ModelStore, StoredModel


class ModelQuota:
    """Places for the models of each caller, at most `max_models`; with 0, nothing is limited or counted."""

    def __init__(self, store: ModelStore, max_models: int) -> None:
        self._store = store
        self._max_models = max_models
        self._making: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Reserves a place while a model is made in the `async with` block.

        Raises:
          LimitExceededError: If the caller has none left.
          UnavailableError: If the store cannot be reached.
        """
        if not self._max_models:
            yield
            return
        self._making[caller] += 1
        try:
            if await self._store.count_charged(caller) + self._making[caller] > self._max_models:
                found, advice = "one more model of this caller exceeds", "; delete one first"
                raise limit_exceeded(found, "max_models_per_caller", self._max_models, advice)
            yield
        finally:
            self._making[caller] -= 1

    async def check(self, caller: str) -> None:
        """Checks that a caller has a place left; raises as `place` does."""
        async with self.place(caller):
            pass

    async def create(
        self,
        caller: str,
        config: ModelConfig,
        tables: CodingTables | None,
        built_with: Mapping[str, str],
        *,
        imported: bool = False,
    ) -> tuple[StoredModel, bool]:
        """Stores a model as `ModelStore.create` does, and counts a new one until it is deleted.

        A cancellation takes effect after both.
        """

        async def store_and_count() -> tuple[StoredModel, bool]:
            stored, created = await self._store.create(config, tables, built_with, imported=imported)
            if created and self._max_models:
                await self._store.charge(caller, config.model_id)
            return stored, created

        task = asyncio.create_task(store_and_count())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # marks it as retrieved; else asyncio logs it
            raise
