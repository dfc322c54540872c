"""What a worker needs to know of a kind of model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd.contract.dtypes import Array


@dataclass(frozen=True)
class Kind:
    """Functions of a configuration of the kind; its `compression` and its supplied tables are not looked at.

    Attributes:
      dtype: Name of the dtype in which TFC computes with bottlenecks.
      row_offsets: `(config, prior, dtype)`: what TFC adds to the integers of each row, cast to the prior's
        dtype, where it samples the density. It is of the `coding_dtype` of `dtype` and broadcast with
        prior_shape to all rows; None for 0 in all of them. The prior is what `priors.distribution` makes.
      entropy_model: `(config, prior, dtype, offsets, compression)`: TFC's object. The offsets are those of
        `row_offsets`, or None where nothing is quantized; `compression` says whether TFC builds tables.
      stores_offsets: Whether the offsets are part of the tables.
    """

    dtype: Callable[[Any], str]
    row_offsets: Callable[[Any, Any, str], Array | None]
    entropy_model: Callable[[Any, Any, str, Array | None, bool], Any]
    stores_offsets: bool = False


def common_arguments(config: Any, dtype: str) -> dict[str, Any]:
    """The arguments that constructors of all of TFC's continuous entropy models take."""
    laplace_tail_mass = config.laplace_tail_mass
    if laplace_tail_mass and config.prior.dtype != "float32":
        # TFC 2.14.1 takes the logarithm of a Python number in float32, and cannot add that to a float64.
        laplace_tail_mass = tf.constant(laplace_tail_mass, config.prior.dtype)
    return {
        "coding_rank": config.coding_rank,
        "stateless": config.stateless,
        "expected_grads": config.expected_grads,
        "tail_mass": config.tail_mass,
        "range_coder_precision": config.range_coder_precision,
        "bottleneck_dtype": tf.as_dtype(dtype),
        "decode_sanity_check": config.decode_sanity_check,
        "laplace_tail_mass": laplace_tail_mass,
    }
