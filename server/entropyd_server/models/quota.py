"""How many models each caller may make.

Owns the count. It must not know how models are made. Invariant: a caller of one server never has more than
its share; the store keeps the count, so that it outlives the server. Replicas that make models for one caller
at the same moment may each grant the last place.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from entropyd.contract.errors import LimitExceededError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from entropyd_server.store.model_store import ModelStore


class ModelQuota:
    """Places for the models of each caller.

    Args:
      store: What keeps the count.
      max_models: Places of one caller; 0 for any number, and then nothing is counted.
    """

    def __init__(self, store: ModelStore, max_models: int) -> None:
        self._store = store
        self._max_models = max_models
        self._making: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Holds a place while a model is made in the `async with` block.

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
                raise LimitExceededError(
                    f"this caller has made as many models as the server's max_models_per_caller of "
                    f"{self._max_models} allows; one has to be deleted first",
                    metadata={"limit": "max_models_per_caller", "value": str(self._max_models)},
                )
            yield
        finally:
            self._making[caller] -= 1

    async def charge(self, caller: str, model_id: str) -> None:
        """Counts a model that was made; until it is deleted it takes a place."""
        if self._max_models:
            await self._store.charge(caller, model_id)
