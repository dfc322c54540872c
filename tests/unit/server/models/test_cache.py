"""Laws of the model cache: all that a model holds is charged, when it grows too; evicted models are gone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Literal

import numpy as np
import pytest

from entropyd import TabulatedConfig, UniversalBatchedConfig, priors
from entropyd_server.coding.batched import BatchedCodec
from entropyd_server.coding.table_codec import TableCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.metrics import Metrics
from entropyd_server.models.cache import LoadedModel, ModelCache
from entropyd_server.store.model_store import ModelStore
from tests.support.sealed_objects import TABLES, two_row_config

MIB = 1 << 20
LOC = np.zeros(50_000)


class Cache:
    """A model cache on a store in memory."""

    def __init__(self, max_bytes: int = MIB) -> None:
        self.metrics = Metrics("test")
        self.store = ModelStore("memory:///")
        self.models = ModelCache(self.store, max_bytes, self.metrics)

    def add(self, config: UniversalBatchedConfig) -> LoadedModel:
        tables = TABLES if config.compression else None
        stored, _ = asyncio.run(self.store.create(config, tables, {}))
        return self.models.add(stored)

    def add_codec(self, coding_rank: int = 1) -> BatchedCodec:
        codec = self.add(two_row_config(coding_rank=coding_rank)).codec
        assert isinstance(codec, BatchedCodec)
        return codec


def without_tables(loc: float) -> UniversalBatchedConfig:
    prior = priors.NoisyNormal(np.full(50_000, loc), 1.0)
    return UniversalBatchedConfig(prior=prior, coding_rank=1, compression=False)


def test_a_model_is_charged_for_its_parameters_its_configuration_and_its_tables() -> None:
    cache = Cache(16 * MIB)
    components = priors.tfp("Normal", loc=LOC.reshape(-1, 1), scale=1.0)
    nested = priors.NoisyMixtureSameFamily([1.0], components)
    adapted = UniversalBatchedConfig(prior=nested, coding_rank=1, compression=False)
    supplied = two_row_config(tables=(TABLES.cdf, TABLES.cdf_offset))
    for config, arrays in (
        (without_tables(1.0), LOC.nbytes),
        (adapted, LOC.nbytes),
        (two_row_config(), TABLES.nbytes),
        (supplied, TABLES.nbytes + TABLES.cdf.nbytes + TABLES.cdf_offset.nbytes),
    ):
        charged = cache.metrics.model_cache_bytes
        cache.add(config)
        grown = cache.metrics.model_cache_bytes - charged
        assert arrays + len(config.canonical_json) < grown < arrays + len(config.canonical_json) + 10_000


def test_models_without_tables_are_evicted_too() -> None:
    cache = Cache()
    for number in range(5):
        cache.add(without_tables(float(number)))
        assert cache.metrics.model_cache_bytes <= MIB
    assert cache.metrics.models_loaded == 1


def test_a_model_that_comes_to_hold_plans_is_charged_for_them() -> None:
    cache = Cache()
    codec, other = cache.add_codec(2), cache.add_codec(3)
    charged = cache.metrics.model_cache_bytes
    rows = codec.rows((1000,))
    cache.models.recharge(codec)
    assert cache.metrics.model_cache_bytes == charged + rows.nbytes + 8 * len(TABLES.cdf_offset)
    # The budget holds for what has grown: the one used longest ago makes room.
    other.rows((1, 64_000))
    cache.models.recharge(other)
    assert cache.metrics.models_loaded == 1
    assert cache.metrics.model_cache_bytes < MIB
    codec.rows((2000,))
    cache.models.recharge(codec)  # evicted meanwhile
    assert cache.metrics.models_loaded == 1


def test_an_evicted_codec_is_gone_without_a_collection_of_garbage() -> None:
    cache = Cache()
    codec = cache.add_codec(2)
    codec.rows((1000,))
    gone = weakref.ref(codec)
    del codec
    gc.disable()
    try:
        cache.add(without_tables(1.0))
        cache.add(without_tables(2.0))
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("row_by", ["position", "index"])
def test_what_a_coder_derives_is_charged_from_the_start(row_by: Literal["position", "index"]) -> None:
    cache = Cache(16 * MIB)
    edges = [*range(0, 65_536, 64), 65_536]
    config = TabulatedConfig([edges] * 50, [0] * 50, 1, row_by=row_by, coder="rans64")
    tables = CodingTables.parse(config.cdf, config.cdf_offset)
    stored, _ = asyncio.run(cache.store.create(config, tables, {}))
    model = cache.models.add(stored)
    charged = cache.metrics.model_cache_bytes
    assert isinstance(model.codec, TableCodec)
    derived = model.codec.tables.rans64.nbytes
    assert derived > tables.table_bytes
    assert charged > tables.nbytes + derived
    assert charged == model.nbytes
