"""TFC's UniversalBatchedEntropyModel of a configuration.

Bottlenecks of 16 bits, for which it cannot be built, are computed in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array, coding_dtype
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd_server.modeling.worker.kinds.kind import Kind, common_arguments


def _entropy_model(
    config: UniversalBatchedConfig, prior: Any, dtype: str, offsets: Array | None, compression: bool
) -> Any:
    del offsets  # TFC computes the same
    return tfc.UniversalBatchedEntropyModel(
        prior,
        compression=compression,
        num_noise_levels=config.num_noise_levels,
        decode_sanity_check=config.decode_sanity_check,
        **common_arguments(config, dtype),
    )


def row_offsets(config: Any, _prior: Any, dtype: str) -> Array:
    """As `_range_coding_offsets` in python/entropy_models/universal.py: [num_noise_levels, 1...]."""
    levels = np.arange(config.num_noise_levels, dtype=dtype)
    offsets = (levels + 1) / (config.num_noise_levels + 1) - 0.5
    return offsets.reshape(-1, *(1 for _ in config.prior_shape))


KIND = Kind(lambda config: coding_dtype(config.bottleneck_dtype), _entropy_model, row_offsets=row_offsets)
