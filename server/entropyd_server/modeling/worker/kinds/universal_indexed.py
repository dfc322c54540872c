"""TFC's UniversalIndexedEntropyModel of a configuration.

Bottlenecks of 16 bits, for which it cannot be built, are computed in float32. Offsets are those of int32
indexes, whatever the dtype of the indexes.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array, coding_dtype
from entropyd.contract.kinds.universal_indexed import UniversalIndexedConfig
from entropyd_server.modeling.worker.kinds.indexed import grid_prior, indexes_as_they_are, prior_function
from entropyd_server.modeling.worker.kinds.kind import Kind, common_arguments
from entropyd_server.modeling.worker.kinds.universal import exact_dither, row_offsets

# `_add_offset_indexes` in python/entropy_models/universal.py.
_DITHER_SEED = (1234, 1234)
_PHILOX = tf.random.Algorithm.PHILOX.value


def _entropy_model(
    config: UniversalIndexedConfig, prior: Any, dtype: str, offsets: Array | None, compression: bool
) -> Any:
    del offsets  # TFC computes the same
    return tfc.UniversalIndexedEntropyModel(
        prior_function(config, prior, compression=compression, channel=True),
        config.index_ranges,
        {"indexes": indexes_as_they_are},
        compression=compression,
        prior_dtype=tf.as_dtype(config.needed_prior.dtype),
        num_noise_levels=config.num_noise_levels,
        decode_sanity_check=config.decode_sanity_check,
        **common_arguments(config, dtype),
    )


def _noise_levels(config: UniversalIndexedConfig, numbers: Array, unit_shape: tuple[int, ...]) -> Array:
    """A unit of n elements with number k has levels k * n to k * n + n - 1 of TFC's array of all units."""
    size = prod(unit_shape)
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    runs = [
        _drawn(int(run[0]) * size, len(run) * size, config.num_noise_levels)
        for run in np.split(numbers, starts[1:])
    ]
    return np.concatenate(runs).reshape(len(numbers), *unit_shape)


def _drawn(first: int, count: int, num_noise_levels: int) -> Array:
    """Elements [first, first + count) of the array that TFC draws: int32 [count]."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=_DITHER_SEED)
    # A step of the counter makes four elements.
    steps, skipped = divmod(first, 4)
    with tf.device("/cpu:0"):
        levels = tf.raw_ops.StatelessRandomUniformIntV2(
            shape=[skipped + count],
            key=key,
            counter=counter.numpy() + np.array([steps, 0], np.uint64),
            alg=_PHILOX,
            minval=0,
            maxval=num_noise_levels,
        )
    return levels.numpy()[skipped:]  # type: ignore[no-any-return]


def _call(model: Any, units: Any, indexes: Any, levels: Any = None, *, training: bool) -> tuple[Any, Any]:
    """Takes the noise levels, int32, where TFC would draw the first ones."""
    with exact_dither(lambda _indexes, _num_noise_levels: levels[..., None]):
        return model(units, indexes, training=training)  # type: ignore[no-any-return]


KIND = Kind(
    lambda config: coding_dtype(config.bottleneck_dtype),
    _entropy_model,
    prior=grid_prior,
    row_offsets=row_offsets,
    call=_call,
    noise_levels=_noise_levels,
)
