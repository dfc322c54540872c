"""What a worker needs to know of a kind of model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from entropyd.contract.dtypes import Array
from entropyd_server.modeling.worker.priors import distribution


def _no_offsets(_config: Any, _prior: Any, _dtype: str) -> None:
    """For kinds whose rows are sampled at integers."""


def _called(model: Any, *inputs: Any, training: bool) -> tuple[Any, Any]:
    return model(*inputs, training=training)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Kind:
    """Functions of a configuration of the kind; its `compression` and its supplied tables are not looked at.

    Attributes:
      dtype: Name of the dtype in which TFC computes with bottlenecks.
      entropy_model: `(config, prior, dtype, offsets, compression)`: TFC's object. The offsets are those of
        `row_offsets`, or None where nothing is quantized; `compression` says whether TFC builds tables.
      prior: `(config)`: the distribution of all rows; None without one.
      row_offsets: `(config, prior, dtype)`: what TFC adds to the integers of each row, cast to the prior's
        dtype, where it samples the density. It is of the `coding_dtype` of `dtype` and broadcast with
        prior_shape to all rows; None for 0 in all of them. The prior is what `prior` makes.
      stores_offsets: Whether the offsets are part of the tables.
      call: `(model, *inputs, training=...)`: what TFC's `__call__` gives for units; indexes, if the kind has
        any; and noise levels, if they were drawn.
      compiled: Whether the call is compiled, which may change last bits of 32-bit arithmetic.
      noise_levels: `(config, numbers, unit_shape)`: the noise level of each element of units with these
        numbers, int32 [units, *unit_shape]; None where TFC draws them itself, or there are none.
    """

    dtype: Callable[[Any], str]
    entropy_model: Callable[[Any, Any, str, Array | None, bool], Any]
    prior: Callable[[Any], Any] = lambda config: distribution(config.needed_prior)
    row_offsets: Callable[[Any, Any, str], Array | None] = _no_offsets
    stores_offsets: bool = False
    call: Callable[..., tuple[Any, Any]] = _called
    compiled: bool = True
    noise_levels: Callable[[Any, Array, tuple[int, ...]], Array] | None = None


def common_arguments(config: Any, dtype: str) -> dict[str, Any]:
    """The arguments that constructors of all of TFC's continuous entropy models take."""
    laplace_tail_mass = config.laplace_tail_mass
    if config.prior.dtype == "float64":
        # TFC 2.14.1 takes the logarithm of a Python number in float32, and cannot add that to a float64. A
        # tensor would do too, but takes many times as long to compile.
        laplace_tail_mass = np.float64(laplace_tail_mass)
    same = ("coding_rank", "stateless", "expected_grads", "tail_mass", "range_coder_precision")
    return {
        **{name: getattr(config, name) for name in same},
        "bottleneck_dtype": tf.as_dtype(dtype),
        "laplace_tail_mass": laplace_tail_mass,
    }
