"""The model cache: models of the store, up to a number of bytes.

Invariants: a model that many callers wait for is read once, and cancelling one caller affects no other; the
cache counts all memory that it keeps alive.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import InvalidRequestError, ModelStateError, UnavailableError
from entropyd.contract.prior import Prior
from entropyd_server.coding.cache import BytesLRU
from entropyd_server.coding.codec import Codec
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.tables import CodingTables
from entropyd_server.metrics import Metrics
from entropyd_server.models.single_flight import SingleFlight
from entropyd_server.store.model_store import ModelStore, StoredModel

_MODEL_ID = re.compile(r"[0-9a-f]{64}")
# Python's objects around the arrays of a model with the rows of one or two shapes; measured with tracemalloc.
_OBJECT_BYTES = 6 * 1024


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A stored model and its codec; None if it was made without compression."""

    stored: StoredModel
    codec: Codec | None

    @property
    def nbytes(self) -> int:
        """Bytes in memory: configuration, tables and all that was derived from them so far."""
        config = self.stored.config
        supplied = config.supplied_tables
        held = _OBJECT_BYTES + len(config.canonical_json) + _prior_bytes(config.prior)
        if supplied is not None:
            held += sum(array.nbytes for array in supplied.by_name().values())
        return held if self.codec is None else held + self.codec.nbytes


class ModelCache:
    """Loads models of a store. Holds at most `max_cache_bytes`, or a single larger model."""

    def __init__(self, store: ModelStore, max_cache_bytes: int, metrics: Metrics) -> None:
        self._store = store
        self._cache: BytesLRU[str, LoadedModel] = BytesLRU(max_cache_bytes)
        self._loads: SingleFlight[str, LoadedModel] = SingleFlight()
        self._forgotten = 0
        self._metrics = metrics

    async def codec(self, model_id: str) -> Codec:
        """Returns the codec of a model.

        Raises:
          InvalidRequestError: If `model_id` is malformed.
          ModelNotFoundError, DataLossError, UnavailableError: As `ModelStore.load`.
          ModelStateError: If the model was made without compression.
        """
        model = await self.model(model_id)
        if model.codec is None:
            raise _without_tables(model.stored.config)
        return model.codec

    async def tables(self, model_id: str) -> CodingTables:
        """Returns the coding tables of a model; raises as `codec` does, also if its kind has none."""
        stored = (await self.model(model_id)).stored
        if stored.tables is None:
            raise _without_tables(stored.config)
        return stored.tables

    async def model(self, model_id: str) -> LoadedModel:
        """Returns a model, from memory or from the store; raises as `codec` does, but not ModelStateError."""
        return self._cached(model_id) or await self._from_store(model_id)

    async def stored_model(self, model_id: str) -> LoadedModel:
        """Returns a model that the store has now; raises as `model` does.

        Another replica may have deleted a cached one, which then is forgotten here, too. While the store is
        out of reach, a cached one counts as stored.
        """
        cached = self._cached(model_id)
        if cached is not None:
            with suppress(UnavailableError):
                if not await self._store.has(model_id):
                    self.forget(model_id)
                    cached = None
        return cached or await self._from_store(model_id)

    def add(self, stored: StoredModel) -> LoadedModel:
        """Caches a model that was just read or written."""
        model = LoadedModel(stored, _codec(stored))
        self._put(model)
        return model

    def recharge(self, codec: Codec) -> None:
        """Updates the counted bytes of a codec that has grown, if its model is still cached."""
        model = self._cache.get(codec.model_id)
        if model is not None and model.codec is codec:
            self._put(model)

    def forget(self, model_id: str) -> None:
        self._forgotten += 1
        self._cache.pop(model_id, None)
        self._measure()

    def _put(self, model: LoadedModel) -> None:
        self._cache[model.stored.config.model_id] = model
        self._measure()

    def _measure(self) -> None:
        self._metrics.models_loaded = len(self._cache)
        self._metrics.model_cache_bytes = int(self._cache.currsize)

    def _cached(self, model_id: str) -> LoadedModel | None:
        cached = self._cache.get(model_id)
        if cached is not None:
            self._metrics.model_cache["hit"] += 1
        return cached

    async def _from_store(self, model_id: str) -> LoadedModel:
        checked_model_id(model_id)
        self._metrics.model_cache["miss"] += 1
        return await self._loads.run(model_id, lambda: self._load(model_id))

    async def _load(self, model_id: str) -> LoadedModel:
        started = time.perf_counter()
        forgotten = self._forgotten
        stored = await self._store.load(model_id)
        self._metrics.model_load_seconds.observe(time.perf_counter() - started)
        if forgotten != self._forgotten:
            # A model was deleted meanwhile, perhaps this one: the next caller has to ask the store again.
            return LoadedModel(stored, _codec(stored))
        return self.add(stored)


def _prior_bytes(prior: Prior | None) -> int:
    if prior is None:
        return 0
    own = sum(value.nbytes for value in prior.parameters.values() if isinstance(value, np.ndarray))
    grid = None if prior.index_ranges is None else prior.on_grid()
    return own + _prior_bytes(prior.nested) + _prior_bytes(grid)


def checked_model_id(model_id: str, field: str = "model_id") -> str:
    """Returns a well-formed model id.

    Raises:
      InvalidRequestError: If it is not 64 lower-case hexadecimal digits.
    """
    if not _MODEL_ID.fullmatch(model_id):
        found = f"is {model_id!r:.80}; expected 64 lower-case hexadecimal digits"
        raise InvalidRequestError.at(field, found)
    return model_id


def _codec(stored: StoredModel) -> Codec | None:
    return codec_of(stored.config, stored.tables) if stored.config.compression else None


def _without_tables(config: ModelConfig) -> ModelStateError:
    if config.compression:
        found, reason = f"is of kind {config.kind}, which has no coding tables", "MODEL_WITHOUT_TABLES"
    else:
        found, reason = "was made with compression=False and has no coding tables", "MODEL_NOT_COMPRESSING"
    metadata = {"model_id": config.model_id}
    return ModelStateError(f"model {config.model_id} {found}", reason=reason, metadata=metadata)
