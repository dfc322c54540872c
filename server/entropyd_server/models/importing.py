"""Imports models that were exported from another store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from entropyd.contract.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    PermissionDeniedError,
    TablesMismatchError,
)
from entropyd_server.models.cache import LoadedModel, ModelCache
from entropyd_server.models.quota import ModelQuota
from entropyd_server.store import model_object
from entropyd_server.store.model_object import ObjectError, builds_tables
from entropyd_server.store.model_store import ModelStore


@dataclass(frozen=True, eq=False)
class ModelImporter:
    """Imports models, of at most `max_model_bytes` of tables, into a store and the cache `models`."""

    store: ModelStore
    models: ModelCache
    quota: ModelQuota
    max_model_bytes: int

    async def add(
        self, blob: bytes, caller: str = "", *, may_choose_tables: bool = True
    ) -> tuple[LoadedModel, bool]:
        """Stores a model that was exported from another store, as it is.

        Args:
          blob: The model's object there.
          caller: Whose quota a new model counts against.
          may_choose_tables: Whether the caller may store tables of its own for a model whose tables are
            otherwise built; all who create the model get them.

        Returns:
          The model, and whether this call stored it.

        Raises:
          InvalidRequestError: If the object does not match its digests.
          PermissionDeniedError: If it is new here and the caller may not choose its tables.
          TablesMismatchError: If this store has the model with other tables.
          LimitExceededError: If its tables are too large, or the caller's quota is used up.
          UnavailableError, DataLossError: As `ModelStore.create`.
        """
        try:
            given = await asyncio.to_thread(model_object.parse, blob, self.max_model_bytes)
        except ObjectError as error:
            found = f"is no exported model, or was damaged ({error!s:.200})"
            raise InvalidRequestError.at("object", found) from error
        config, tables = given.config, given.tables
        try:
            stored, created = await self.store.load(config.model_id), False
        except ModelNotFoundError:
            if builds_tables(config) and not may_choose_tables:
                raise PermissionDeniedError(
                    f"the tables of model {config.model_id} would be built from its prior, so importing them "
                    "needs scope admin; creating the model does not, nor does one whose config has tables",
                    metadata={"method": "ImportModel", "scopes": "admin"},
                ) from None
            async with self.quota.place(caller):
                stored, created = await self.quota.create(
                    caller, config, tables, given.built_with, imported=True
                )
        if tables is not None and stored.tables is not None and stored.tables.digest != tables.digest:
            raise TablesMismatchError(
                f"model {config.model_id} is in this store with other coding tables; strings made with the "
                "imported ones would not decode here",
                metadata={"model_id": config.model_id, "tables_digest": stored.tables.digest.hex()},
            )
        return self.models.add(stored), created
