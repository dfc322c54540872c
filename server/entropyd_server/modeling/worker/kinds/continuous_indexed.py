"""TFC's ContinuousIndexedEntropyModel of a configuration.

A channel axis is always the last one here, wherever callers have it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array
from entropyd.contract.kinds.continuous_indexed import ContinuousIndexedConfig
from entropyd_server.modeling.worker.kinds.indexed import grid_prior, indexes_as_they_are, prior_function
from entropyd_server.modeling.worker.kinds.kind import Kind, common_arguments


def _entropy_model(
    config: ContinuousIndexedConfig, prior: Any, dtype: str, _offsets: Array | None, compression: bool
) -> Any:
    channel = config.channel_axis is not None
    return tfc.ContinuousIndexedEntropyModel(
        prior_function(config, prior, compression=compression, channel=channel),
        config.index_ranges,
        {"indexes": indexes_as_they_are},
        channel_axis=-1 if channel else None,
        compression=compression,
        prior_dtype=tf.as_dtype(config.needed_prior.dtype),
        decode_sanity_check=config.decode_sanity_check,
        **common_arguments(config, dtype),
    )


KIND = Kind(lambda config: str(config.bottleneck_dtype), _entropy_model, prior=grid_prior)
