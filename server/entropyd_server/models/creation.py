"""Creates models: finds them in the store, or builds their tables and stores them.

Invariant: a configuration is built at most once at a time, and every caller gets what the store holds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import ModelNotFoundError, OverloadedError
from entropyd_server.coding.tables import CodingTables
from entropyd_server.metrics import Metrics
from entropyd_server.models.cache import LoadedModel, ModelCache
from entropyd_server.models.quota import ModelQuota
from entropyd_server.models.single_flight import SingleFlight
from entropyd_server.models.table_builder import TableBuilder
from entropyd_server.store.model_object import check_fit

_MOST_CREATIONS = 256
_MOST_CREATIONS_OF_A_CALLER = 32
_RETRY_AFTER_S = 5.0


class ModelCreator:
    """Creates models, of at most `max_model_bytes` of tables, in a store and the cache `models`."""

    def __init__(
        self,
        models: ModelCache,
        quota: ModelQuota,
        builder: TableBuilder,
        max_model_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._models = models
        self._quota = quota
        self._builder = builder
        self._max_model_bytes = max_model_bytes
        self._build_seconds = metrics.table_build_seconds
        self._creations: SingleFlight[str, tuple[LoadedModel, bool]] = SingleFlight(cancel_abandoned=True)
        self._creations_by_caller: Counter[str] = Counter()

    async def create(
        self, config: ModelConfig, caller: str = "", turn_key: str = ""
    ) -> tuple[LoadedModel, bool]:
        """Finds or makes the model of a configuration.

        A build is cancelled when all its callers are.

        Args:
          config: What to build.
          caller: Whose quota a new model counts against.
          turn_key: Callers of one key take turns as one; see `ModelCaller`.

        Returns:
          The model, and whether this call stored it.

        Raises:
          InvalidConfigError: If no tables can be built from it.
          LimitExceededError: If its tables are too large, take too long or too much memory to build, or the
            caller's quota is used up.
          OverloadedError: If too many models are being made, for this caller or for all together.
          UnavailableError: If the worker died, or the store cannot be reached.
          RoleMissingError: If its tables are to be built, on a server without the modeling role.
          DataLossError: If the stored model is damaged.
        """
        if config.model_id not in self._creations:
            self._check_load(turn_key)
        leads = False

        async def lead() -> tuple[LoadedModel, bool]:
            nonlocal leads
            leads = True
            self._creations_by_caller[turn_key] += 1
            try:
                return await self._create(config, caller, turn_key)
            finally:
                self._creations_by_caller[turn_key] -= 1
                if not self._creations_by_caller[turn_key]:
                    del self._creations_by_caller[turn_key]

        model, created = await self._creations.run(config.model_id, lead)
        return model, created and leads

    def _check_load(self, turn_key: str) -> None:
        if self._creations_by_caller[turn_key] >= _MOST_CREATIONS_OF_A_CALLER:
            found = f"{_MOST_CREATIONS_OF_A_CALLER} models are being made for this caller"
        elif len(self._creations) >= _MOST_CREATIONS:
            found = f"{_MOST_CREATIONS} models are being made"
        else:
            return
        raise OverloadedError(found, retry_after_s=_RETRY_AFTER_S)

    async def _create(self, config: ModelConfig, caller: str, turn_key: str) -> tuple[LoadedModel, bool]:
        try:
            return await self._models.stored_model(config.model_id), False
        except ModelNotFoundError:
            pass
        async with self._quota.place(caller):
            tables, built_with = await self._tables(config, turn_key)
            stored, created = await self._quota.create(caller, config, tables, built_with)
        return self._models.add(stored), created

    async def _tables(
        self, config: ModelConfig, turn_key: str
    ) -> tuple[CodingTables | None, Mapping[str, str]]:
        if not config.has_tables:
            return None, {}
        built_with: Mapping[str, str] = {}
        raw = config.supplied_tables
        if raw is None:
            started = time.perf_counter()
            built = await self._builder.build_tables(config, turn_key)
            self._build_seconds.observe(time.perf_counter() - started)
            raw, built_with = built.tables, built.built_with
        tables = await asyncio.to_thread(CodingTables.parse, *raw, max_bytes=self._max_model_bytes)
        check_fit(config, tables)
        return tables, built_with
