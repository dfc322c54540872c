"""Bits of coding units and their gradients, in NumPy: what `rate` of every framework shares.

Units are independent. So the gradient of a weighted sum of their bits is that of the plain sum, which Perturb
gives, with the part of each unit times its weight.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from entropyd import Model
from entropyd._indexes import plane_shape
from entropyd._location import summed_to
from entropyd._messages import Perturbed
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import Array
from entropyd.contract.indexes import takes_indexes


def perturbed(
    model: Model, y: Any, indexes: Any = None, loc: Any = None, *, training: bool, gradient: bool
) -> Perturbed:
    """`model.perturb(y, ...)`, with a gradient that has a part for every element of every unit.

    Raises:
      EntropydError: As `Model.perturb`, which calls `y` the bottleneck.
    """
    if indexes is not None and takes_indexes(model.config):
        # Otherwise the gradient would be summed over the units that share an element of y.
        with contextlib.suppress(ValueError):  # perturb names what does not fit
            y = np.broadcast_to(y, plane_shape(model.config, np.shape(indexes)))
    return model.perturb(y, indexes, loc, training=training, gradient=gradient)


def propagated(
    config: ModelConfig,
    upstream: Array,
    gradient: Array,
    index_gradient: Array | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Array]:
    """Gradients by the arguments of `rate`, from the one by its result.

    Args:
      config: The model's.
      upstream: [batch...], the gradient by the bits of each unit.
      gradient: [batch..., unit...], of `perturbed`.
      index_gradient: Of `perturbed`, of the shape of the indexes.
      shapes: Of y and, if it was given, of loc, before they were broadcast.

    Returns:
      Those that there are, by the argument's name, of its shape.
    """
    weights = upstream.reshape(upstream.shape + (1,) * config.coding_rank)
    whole = weights * gradient
    found = {"y": summed_to(whole, shapes["y"])}
    if "loc" in shapes:
        found["loc"] = summed_to(-whole, shapes["loc"])
    if index_gradient is not None and takes_indexes(config):
        axis = config.channel_axis
        found["indexes"] = index_gradient * (weights if axis is None else np.expand_dims(weights, axis))
    return found
