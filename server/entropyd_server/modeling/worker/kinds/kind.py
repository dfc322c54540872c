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
      entropy_model: Makes TFC's object: `(config, prior, compression, dtype)`, where the prior is made by
        `priors.distribution`, `compression` says whether TFC builds tables, and `dtype` is the bottleneck's.
      row_offsets: Gives what TFC adds to the integers of each row where it samples the density:
        `(config, prior, dtype)`, in the prior's dtype, broadcast with prior_shape to all rows. It may change
        the prior, so that TFC finds the same without a search.
      dtype: Name of the dtype in which TFC computes with bottlenecks.
    """

    entropy_model: Callable[[Any, Any, bool, str], Any]
    row_offsets: Callable[[Any, Any, str], Array]
    dtype: Callable[[Any], str]


def constant_tail_mass(config: Any) -> Any:
    """A configuration's laplace_tail_mass in a form that TFC 2.14.1 takes with any prior.

    It takes the logarithm of a Python number in float32 and cannot add that to a float64.
    """
    if config.laplace_tail_mass and config.prior.dtype != "float32":
        return tf.constant(config.laplace_tail_mass, config.prior.dtype)
    return config.laplace_tail_mass
