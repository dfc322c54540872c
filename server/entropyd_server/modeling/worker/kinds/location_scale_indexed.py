"""TFC's LocationScaleIndexedEntropyModel of a configuration; its callers subtract and add the location."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array
from entropyd.contract.kinds.location_scale_indexed import LocationScaleIndexedConfig
from entropyd_server.modeling.worker.kinds.indexed import grid_prior, indexes_as_they_are, prior_function
from entropyd_server.modeling.worker.kinds.kind import Kind, common_arguments


def _entropy_model(
    config: LocationScaleIndexedConfig, prior: Any, dtype: str, _offsets: Array | None, compression: bool
) -> Any:
    prior_at = prior_function(config, prior, compression=compression, channel=False)
    return tfc.LocationScaleIndexedEntropyModel(
        # `loc` is 0, which the prior has too.
        lambda loc, scale: prior_at(indexes=scale),  # noqa: ARG005 - TFC passes it by name
        config.num_scales,
        indexes_as_they_are,
        compression=compression,
        prior_dtype=tf.as_dtype(config.needed_prior.dtype),
        **common_arguments(config, dtype),
    )


KIND = Kind(lambda config: str(config.bottleneck_dtype), _entropy_model, prior=grid_prior)
