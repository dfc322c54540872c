"""Small models with supplied tables, which need no modeling plane."""

from __future__ import annotations

import asyncio

import numpy as np

from entropyd import ModelInfo, UniversalBatchedConfig, priors
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store import model_object
from entropyd_server.store.model_store import ModelStore

_ROW = [-8, 0, 16, 64, 192, 240, 256]
CHANNELS = 3
_TABLES = (
    np.array([-4, 0, 3, 16, -4, 0, 1, 2, 16], np.int32),
    np.array([-1, 5], np.int32),
)


def supplied(number: int) -> UniversalBatchedConfig:
    """One of many, whose bottleneck is float32 [..., n, 2]."""
    return UniversalBatchedConfig(
        prior=priors.NoisyNormal(0.0, [1.0, 2.0 + number]),
        coding_rank=2,
        num_noise_levels=1,
        range_coder_precision=4,
        tables=_TABLES,
    )


def put_model(store_url: str) -> ModelInfo:
    """Stores a model, whose bottleneck is float32 [..., n, CHANNELS], and says what GetModel would."""
    tables = CodingTables.parse(_ROW * CHANNELS, [-2] * CHANNELS)
    config = UniversalBatchedConfig(
        prior=priors.NoisyNormal(loc=0.0, scale=[1.0] * CHANNELS),
        coding_rank=2,
        num_noise_levels=1,
        range_coder_precision=8,
        tables=(tables.cdf, tables.cdf_offset),
    )
    stored, _ = asyncio.run(ModelStore(store_url).create(config, tables, {}))
    return ModelInfo(
        id=config.model_id,
        config=config,
        tables_digest=tables.digest,
        table_rows=CHANNELS,
        table_bytes=stored.table_bytes,
        built_with={},
        created_at=stored.created_at,
    )


def supplied_object(number: int) -> tuple[str, bytes]:
    """The id of `supplied(number)` and its object, as the store would write it."""
    config = supplied(number)
    return config.model_id, model_object.serialise(config, CodingTables.parse(*_TABLES), {})
