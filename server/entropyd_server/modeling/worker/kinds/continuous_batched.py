"""TFC's ContinuousBatchedEntropyModel of a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array, coding_dtype
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd_server.modeling.worker.kinds.kind import Kind, common_arguments
from entropyd_server.modeling.worker.tails import locate_offset


def _row_offsets(config: ContinuousBatchedConfig, prior: Any, dtype: str) -> Array | None:
    """The quantization offset as TFC's constructor sets it: given, or computed and None where it is all 0."""
    if config.quantization_offset is not None:
        offset = config.quantization_offset
    elif config.offset_heuristic and config.supplied_tables is None:
        offset = locate_offset(prior)
        if not offset.any():
            return None
    else:
        return None
    rounded: Array = tf.cast(tf.cast(offset, dtype), coding_dtype(dtype)).numpy()
    return np.broadcast_to(rounded, config.prior_shape)


def _entropy_model(
    config: ContinuousBatchedConfig, prior: Any, dtype: str, offsets: Array | None, compression: bool
) -> Any:
    return tfc.ContinuousBatchedEntropyModel(
        prior,
        compression=compression,
        offset_heuristic=False,
        decode_sanity_check=config.decode_sanity_check,
        quantization_offset=None if offsets is None else tf.constant(offsets),
        **common_arguments(config, dtype),
    )


KIND = Kind(
    lambda config: str(config.bottleneck_dtype),
    _entropy_model,
    row_offsets=_row_offsets,
    stores_offsets=True,
)
