"""Making models: find, or build and store.

Owns the order of steps from a configuration to a stored model. It must not know how tables are computed.
Invariant: one configuration is built at most once at a time, and what callers get is what the store holds,
whoever put it there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from entropyd.contract.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    TablesMismatchError,
    Violation,
)
from entropyd_server.coding.tables import CodingTables
from entropyd_server.models.quota import ModelQuota
from entropyd_server.models.single_flight import SingleFlight
from entropyd_server.models.uninterrupted import uninterrupted
from entropyd_server.store import model_object
from entropyd_server.store.model_object import ObjectError, builds_tables, check_fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entropyd.contract.config import ModelConfig
    from entropyd.contract.tables import RawTables
    from entropyd_server.limits import Limits
    from entropyd_server.metrics import Metrics
    from entropyd_server.models.cache import LoadedModel, ModelCache
    from entropyd_server.store.model_store import ModelStore, StoredModel


_MOST_CREATIONS = 256
_MOST_CREATIONS_OF_A_CALLER = 32
_RETRY_AFTER_S = 5.0


class BuiltTables(Protocol):
    """What a worker hands back."""

    @property
    def tables(self) -> RawTables:
        """The tables."""

    @property
    def built_with(self) -> Mapping[str, str]:
        """Versions of the libraries that built them."""


class TableBuilder(Protocol):
    """The worker's interface, as far as creation needs it."""

    async def build_tables(self, config: ModelConfig, caller: str) -> BuiltTables:
        """Builds the tables of a configuration that asks for compression, in the caller's turn."""


class ModelCreator:
    """Creates models in a store."""

    def __init__(
        self,
        store: ModelStore,
        library: ModelCache,
        builder: TableBuilder,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._library = library
        self._builder = builder
        self._limits = limits
        self._build_seconds = metrics.table_build_seconds
        self._creations: SingleFlight[str, tuple[LoadedModel, bool]] = SingleFlight(cancel_abandoned=True)
        self._creations_by_caller: Counter[str] = Counter()
        self._quota = ModelQuota(store, limits.max_models_per_caller)

    async def create(
        self, config: ModelConfig, caller: str = "", turns: str = ""
    ) -> tuple[LoadedModel, bool]:
        """Finds or makes the model of a configuration, in a place of the caller's if it has to be made.

        A build whose callers have all left is cancelled.

        Args:
          config: The configuration.
          caller: Who has a place for it.
          turns: Who takes turns with others: the caller, or a part of those who are one to the quota.

        Returns:
          The model, and whether this call stored it.

        Raises:
          InvalidConfigError: If no tables can be built from it.
          LimitExceededError: If its tables are too large, or took too long or too much memory to build, or
            the caller has no place for it.
          OverloadedError: If too many models are being made, for this caller or for all together.
          UnavailableError: If the worker died, or the store cannot be reached.
          DataLossError: If the stored model is damaged.
        """
        if config.model_id not in self._creations:
            self._check_load(turns)
        leads = False

        async def lead() -> tuple[LoadedModel, bool]:
            nonlocal leads
            leads = True
            self._creations_by_caller[turns] += 1
            try:
                return await self._create(config, caller, turns)
            finally:
                self._creations_by_caller[turns] -= 1
                if not self._creations_by_caller[turns]:
                    del self._creations_by_caller[turns]

        model, created = await self._creations.run(config.model_id, lead)
        return model, created and leads

    async def add(
        self, blob: bytes, caller: str = "", *, may_choose_tables: bool = True
    ) -> tuple[LoadedModel, bool]:
        """Stores a model that another store holds, as it is.

        Args:
          blob: The model's object there.
          caller: In whose place, if it is new here.
          may_choose_tables: Whether the caller may store tables in the place of those that would be built,
            which all who create the model would then be given.

        Returns:
          The model, and whether this call stored it.

        Raises:
          InvalidRequestError: If the object does not match its digests.
          PermissionDeniedError: If it is new here and the caller may not choose its tables.
          TablesMismatchError: If this store has the model with other tables.
          LimitExceededError: If its tables are too large, or the caller has no place for it.
          UnavailableError, DataLossError: As `create`.
        """
        try:
            given = await asyncio.to_thread(model_object.parse, blob, self._limits.max_model_bytes)
        except ObjectError as error:
            found = f"is no exported model, or was damaged ({error!s:.200})"
            raise InvalidRequestError.of([Violation("object", found)]) from error
        config, tables = given.config, given.tables
        try:
            stored, created = await self._store.load(config.model_id), False
        except ModelNotFoundError:
            if builds_tables(config) and not may_choose_tables:
                raise PermissionDeniedError(
                    f"the tables of model {config.model_id} would be built from its prior, so importing them "
                    "needs scope admin; creating the model does not, nor does one whose config has tables",
                    metadata={"method": "ImportModel", "scopes": "admin"},
                ) from None
            async with self._quota.place(caller):
                stored, created = await self._stored(config, tables, given.built_with, caller, imported=True)
        if tables is not None and stored.tables is not None and stored.tables.digest != tables.digest:
            raise TablesMismatchError(
                f"model {config.model_id} is in this store with other coding tables; strings made with the "
                "imported ones would not decode here",
                metadata={"model_id": config.model_id, "tables_digest": stored.tables.digest.hex()},
            )
        return self._library.add(stored), created

    def _check_load(self, turns: str) -> None:
        """Refuses another model while too many are being made."""
        if self._creations_by_caller[turns] >= _MOST_CREATIONS_OF_A_CALLER:
            found = f"{_MOST_CREATIONS_OF_A_CALLER} models are being made for this caller"
        elif len(self._creations) >= _MOST_CREATIONS:
            found = f"{_MOST_CREATIONS} models are being made"
        else:
            return
        raise OverloadedError(found, retry_after_s=_RETRY_AFTER_S)

    async def check_place(self, caller: str) -> None:
        """Tells a caller who has no place for another model before it goes to some length for one.

        Raises:
          LimitExceededError, UnavailableError: As `create`.
        """
        async with self._quota.place(caller):
            pass

    async def _create(self, config: ModelConfig, caller: str, turns: str) -> tuple[LoadedModel, bool]:
        try:
            return await self._library.model(config.model_id), False
        except ModelNotFoundError:
            pass
        async with self._quota.place(caller):
            tables, built_with = await self._tables(config, turns)
            stored, created = await self._stored(config, tables, built_with, caller)
        return self._library.add(stored), created

    async def _stored(
        self,
        config: ModelConfig,
        tables: CodingTables | None,
        built_with: Mapping[str, str],
        caller: str,
        *,
        imported: bool = False,
    ) -> tuple[StoredModel, bool]:
        async def store_and_charge() -> tuple[StoredModel, bool]:
            stored, created = await self._store.create(config, tables, built_with, imported=imported)
            if created:
                await self._quota.charge(caller, config.model_id)
            return stored, created

        return await uninterrupted(store_and_charge())

    async def _tables(self, config: ModelConfig, turns: str) -> tuple[CodingTables | None, Mapping[str, str]]:
        if not config.compression:
            return None, {}
        built_with: Mapping[str, str] = {}
        raw = config.supplied_tables
        if raw is None:
            started = time.perf_counter()
            built = await self._builder.build_tables(config, turns)
            self._build_seconds.observe(time.perf_counter() - started)
            raw, built_with = built.tables, built.built_with
        limit = self._limits.max_model_bytes
        tables = await asyncio.to_thread(CodingTables.parse, *raw, max_bytes=limit)
        check_fit(config, tables)
        return tables, built_with
