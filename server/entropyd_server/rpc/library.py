"""Models at hand: what the store holds, loaded once and kept while there is room.

Owns the cache of loaded models. It must not know what they are used for. Invariant: however many callers
wait for a model it is read once, and a caller that leaves takes nothing from the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entropyd.contract.errors import ModelStateError
from entropyd_server.coding.cache import BytesLRU
from entropyd_server.coding.codec import Codec
from entropyd_server.rpc.requests import checked_model_id
from entropyd_server.rpc.single_flight import SingleFlight

if TYPE_CHECKING:
    from entropyd_server.metrics import Metrics
    from entropyd_server.store.model_store import ModelStore, StoredModel


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A stored model and, if it was made with compression, its codec."""

    stored: StoredModel
    codec: Codec | None


class ModelLibrary:
    """Loads models of a store, at most `max_cache_bytes` of coding tables at a time."""

    def __init__(self, store: ModelStore, max_cache_bytes: int, metrics: Metrics) -> None:
        self._store = store
        self._cache: BytesLRU[str, LoadedModel] = BytesLRU(max_cache_bytes)
        self._loads: SingleFlight[str, LoadedModel] = SingleFlight()
        self._forgotten = 0
        self._metrics = metrics

    async def codec(self, model_id: str) -> Codec:
        """The codec of a model.

        Raises:
          InvalidRequestError: If it is no model id.
          ModelNotFoundError, DataLossError, UnavailableError: As the store.
          ModelStateError: If the model was made without compression.
        """
        model = self._at_hand(model_id) or await self._from_store(model_id)
        if model.codec is None:
            raise ModelStateError(
                f"model {model_id} was made with compression=False and has no coding tables",
                metadata={"model_id": model_id},
            )
        return model.codec

    async def model(self, model_id: str) -> LoadedModel:
        """A model, from memory or from the store.

        Raises:
          InvalidRequestError: If it is no model id.
          ModelNotFoundError, DataLossError, UnavailableError: As the store.
        """
        return self._at_hand(model_id) or await self._from_store(model_id)

    def add(self, stored: StoredModel) -> LoadedModel:
        """Puts a model that was just read or written at hand."""
        model = LoadedModel(stored, _codec(stored))
        self._cache.put(stored.config.model_id, model, 0 if model.codec is None else model.codec.nbytes)
        self._metrics.models_loaded = len(self._cache)
        return model

    def forget(self, model_id: str) -> None:
        """Drops a model from memory."""
        self._forgotten += 1
        self._cache.drop(model_id)
        self._metrics.models_loaded = len(self._cache)

    def _at_hand(self, model_id: str) -> LoadedModel | None:
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
            # Something was deleted meanwhile, perhaps this model: whoever asks next reads the store again.
            return LoadedModel(stored, _codec(stored))
        return self.add(stored)


def _codec(stored: StoredModel) -> Codec | None:
    if stored.tables is None:
        return None
    config = stored.config
    return Codec(
        model_id=config.model_id,
        tables=stored.tables,
        prior_shape=config.prior_shape,
        coding_rank=config.coding_rank,
        bottleneck_dtype=config.bottleneck_dtype,
        num_noise_levels=config.num_noise_levels,
        decode_sanity_check=config.decode_sanity_check,
    )
