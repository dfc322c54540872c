"""A small model with supplied tables, put into a store without a modeling plane."""

from __future__ import annotations

import asyncio

from entropyd import ModelInfo, UniversalBatchedConfig, priors
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_store import ModelStore

_ROW = [-8, 0, 16, 64, 192, 240, 256]
CHANNELS = 3


def put_model(store_url: str) -> ModelInfo:
    """Stores the model, whose bottleneck is float32 [..., n, CHANNELS], and says what GetModel would."""
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
