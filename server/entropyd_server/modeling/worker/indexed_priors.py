"""Makes the TensorFlow distribution of a prior at given indexes.

Invariant: functions of the index are TensorFlow's own operations in the prior's dtype, in the order in which
users of TFC write them. So tables are those of such functions, and gradients by index exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from entropyd.contract.families import FAMILIES
from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.parameters import Array
from entropyd.contract.prior import Prior
from entropyd_server.modeling.worker.indexed_networks import network_at
from entropyd_server.modeling.worker.priors import distribution


def on_grid(prior: Prior) -> Any:
    """The distribution of an indexed prior at all of its indexes, of batch shape index_ranges."""
    if prior.index_ranges is None:
        return distribution(prior)
    indexes = tf.meshgrid(*(tf.range(length) for length in prior.index_ranges), indexing="ij")
    return at_indexes(prior, tf.cast(tf.stack(indexes, axis=-1), prior.dtype), channel=True)


def at_indexes(prior: Prior, indexes: Any, *, channel: bool) -> Any:
    """The distribution of an indexed prior at some indexes, whose shape is its batch shape.

    Args:
      prior: One with index_ranges, or one whose batch shape they are.
      indexes: Within the ranges, of the prior's dtype.
      channel: Whether the last axis of the indexes is that of index_ranges; without it there is one range.
    """
    ranges = prior.batch_shape
    by_axis = tf.unstack(indexes, len(ranges), axis=-1) if channel else [indexes]
    row = 0
    for index, length in zip(by_axis, ranges, strict=True):
        row = row * length + tf.cast(index, tf.int32)
    is_constant = not _varies(prior, 0)

    def parameter(owner: Prior, name: str, value: Any, components: int) -> Any:
        if isinstance(value, IndexFunction):
            return _evaluated(value, by_axis, ranges, components)
        if _varies(value, components) or (
            # One has to have the shape of the indexes, and it may be all of them.
            is_constant and FAMILIES[owner.family].arrays[name] != "one positive"
        ):
            return _picked(value, row, ranges, components)
        return value

    return distribution(prior, parameter, lambda network: network_at(network, row))


def _varies(value: Any, components: int) -> bool:
    """Whether a parameter, or one of a prior's, differs between indexes or is an array over all of them."""
    if isinstance(value, Prior):
        components += "weight" in value.parameters
        return any(_varies(parameter, components) for parameter in value.parameters.values())
    return isinstance(value, IndexFunction) or np.ndim(value) > components


def _picked(array: Array, row: Any, ranges: tuple[int, ...], components: int) -> Any:
    """Elements of an array that broadcasts to [*ranges, components], at rows of it in row-major order."""
    inner = ((1,) * components + array.shape)[-components:] if components else ()
    rows = np.broadcast_to(array, (*ranges, *inner)).reshape(-1, *inner)
    return tf.gather(tf.constant(rows), row)


def _evaluated(function: IndexFunction, indexes: Sequence[Any], ranges: Any, components: int) -> Any:
    """Values of a function of all indexes, each a tensor; with an axis for components where there are any."""
    if components:
        indexes = [index[..., None] for index in indexes]
    return _FUNCTIONS[function.name](indexes, ranges, function.axis, **function.arguments)


def _affine(indexes: Sequence[Any], _ranges: Any, axis: int, offset: Array, slope: Array) -> Any:
    dtype = indexes[axis].dtype
    value = tf.constant(offset, dtype)
    if slope.ndim < 2:
        return value + tf.constant(slope, dtype) * indexes[axis]
    for column, index in zip(slope.T, indexes, strict=True):
        value += tf.constant(column, dtype) * index
    return value


def _log_spaced(indexes: Sequence[Any], ranges: tuple[int, ...], axis: int, low: Array, high: Array) -> Any:
    # Numbers in float64, as Python computes them.
    slope = (np.log(high) - np.log(low)) / max(ranges[axis] - 1, 1)
    return tf.exp(_affine(indexes, ranges, axis, np.log(low), slope))


def _table(indexes: Sequence[Any], _ranges: Any, axis: int, values: Array) -> Any:
    """Between two integers on the line between their values; at integers exactly these."""
    index = indexes[axis]
    row = tf.cast(index if values.ndim == 1 else index[..., 0], tf.int32)
    slopes = np.diff(values, axis=0)
    slopes = np.concatenate([slopes, slopes[-1:]]) if len(slopes) else np.zeros_like(values)
    value, slope = (tf.gather(tf.constant(array, index.dtype), row) for array in (values, slopes))
    return value + (index - tf.math.floor(index)) * slope


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "affine": _affine,
    "exp_affine": lambda *indexes, **arguments: tf.exp(_affine(*indexes, **arguments)),
    "log_spaced": _log_spaced,
    "softmax_affine": lambda *indexes, **arguments: tf.nn.softmax(_affine(*indexes, **arguments)),
    "table": _table,
}
