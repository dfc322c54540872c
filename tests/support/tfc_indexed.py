"""TFC's indexed entropy models and PowerLaw, built the way a user of TFC would, to compare with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc
import tensorflow_probability as tfp

from entropyd import (
    ContinuousIndexedConfig,
    LocationScaleIndexedConfig,
    PowerLawConfig,
    Prior,
    UniversalIndexedConfig,
)
from entropyd.contract.dtypes import coding_dtype
from entropyd.contract.index_functions import IndexFunction

if TYPE_CHECKING:
    from collections.abc import Callable


def tfc_indexed(config: Any, *, compression: bool = True) -> Any:
    """TFC's object of an indexed configuration or PowerLaw; its prior has numbers, arrays and functions only.

    Bottlenecks of 16 bits of a UniversalIndexed model, which TFC refuses, are float32 here.
    """
    if isinstance(config, PowerLawConfig):
        return tfc.PowerLawEntropyModel(config.coding_rank, config.alpha, config.bottleneck_dtype)
    same = {
        name: getattr(config, name)
        for name in ("coding_rank", "expected_grads", "tail_mass", "range_coder_precision")
    }
    same |= {
        "compression": compression,
        "bottleneck_dtype": config.bottleneck_dtype,
        "prior_dtype": config.prior_dtype,
        "laplace_tail_mass": tf.constant(config.laplace_tail_mass, config.prior_dtype),
    }
    functions = parameter_functions(config)
    make = partial(_density, config.prior)
    if isinstance(config, LocationScaleIndexedConfig):
        return tfc.LocationScaleIndexedEntropyModel(make, config.num_scales, functions["scale"], **same)
    if isinstance(config, UniversalIndexedConfig):
        same["bottleneck_dtype"] = coding_dtype(config.bottleneck_dtype)
        return tfc.UniversalIndexedEntropyModel(
            make, config.index_ranges, functions, num_noise_levels=config.num_noise_levels, **same
        )
    assert isinstance(config, ContinuousIndexedConfig)
    return tfc.ContinuousIndexedEntropyModel(
        make, config.index_ranges, functions, channel_axis=config.channel_axis, **same
    )


def parameter_functions(config: Any) -> dict[str, Callable[[Any], Any]]:
    """TFC's `parameter_fns`."""
    return {name: partial(_value, config, value) for name, value in config.prior.parameters.items()}


def _density(prior: Prior, **parameters: Any) -> Any:
    if prior.family.startswith("tfp."):
        return getattr(tfp.distributions, prior.family.removeprefix("tfp."))(**parameters)
    return getattr(tfc, prior.family)(**parameters)


def _value(config: Any, value: Any, indexes: Any) -> Any:
    """A parameter at indexes as TFC gives them to a function."""
    dtype, ranges = config.prior_dtype, config.index_ranges
    axis = config.channel_axis
    channels = [indexes] if axis is None else tf.unstack(indexes, axis=axis)
    mixture = "weight" in config.prior.parameters
    if not isinstance(value, IndexFunction):
        if np.ndim(value) <= mixture:
            return value
        components = value.shape[-1:] if mixture else ()
        whole = np.broadcast_to(value, (*ranges, *components))
        return tf.gather_nd(whole, tf.cast(tf.stack(channels, -1), tf.int32))
    given = {name: np.asarray(array, dtype) for name, array in value.arguments.items()}
    i = channels[value.axis]
    if value.name == "table":
        lower = tf.cast(i, tf.int32)
        fraction = i - tf.cast(lower, dtype)
        if given["values"].ndim > 1:
            fraction = fraction[..., None]
        steps = np.diff(given["values"], axis=0)
        step = tf.gather(steps, tf.minimum(lower, ranges[value.axis] - 2))
        found = tf.gather(given["values"], lower) + fraction * step
        return found[..., None] if mixture and given["values"].ndim == 1 else found
    if mixture:
        i = i[..., None]
    if value.name == "log_spaced":
        low, high = np.log(value.arguments["low"]), np.log(value.arguments["high"])
        factor = (high - low) / max(ranges[value.axis] - 1, 1)
        return tf.math.exp(low.astype(dtype) + factor.astype(dtype) * i)
    if given["slope"].ndim < 2:
        line = i * given["slope"] + given["offset"]
    else:
        line = tf.reduce_sum(tf.stack(channels, -1)[..., None, :] * given["slope"], -1) + given["offset"]
    return {"affine": tf.identity, "exp_affine": tf.exp, "softmax_affine": tf.nn.softmax}[value.name](line)
