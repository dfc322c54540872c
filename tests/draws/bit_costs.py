"""Bit costs and gradients of one model by TFC's own arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow_compression.python.ops import math_ops

from entropyd.contract.index_functions import IndexFunction

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.draws.cases import Case


class BitCosts:
    """What bits of a case are, given TFC's object."""

    def __init__(self, plain: Any, given: Case) -> None:
        self._plain, self._case = plain, given
        self._config: Any = given.config

    def indexes(self) -> list[Any]:
        """Indexes of a call: whole numbers, if TFC's object has the rows of its tables alone."""
        indexes = self._case.indexes
        if indexes is None:
            return []
        if self._case.has_callables:
            return [indexes]
        ranges = np.reshape(self._config.index_ranges, self._channel_shape(indexes.ndim))
        return [np.trunc(np.clip(indexes, 0, ranges - 1)).astype(indexes.dtype)]

    def _channel_shape(self, axes: int) -> list[int]:
        shape = [1] * axes
        if self._config.channel_axis is not None:
            shape[self._config.channel_axis] = -1
        return shape if -1 in shape else []

    @property
    def _has_index_gradient(self) -> bool:
        """Whether TFC's object has callables, and the service a function for one of them."""
        return self._case.has_callables and any(
            isinstance(value, IndexFunction) for value in self._config.prior.parameters.values()
        )

    def log_prob_of_rows(self, indexes: Any) -> Callable[[Any], Any]:
        """The log probability of each element by its row of a prior that was built on the grid."""
        ranges = self._config.index_ranges
        axis = self._config.channel_axis
        channels = [indexes] if axis is None else np.moveaxis(indexes, axis, 0)
        rows = np.ravel_multi_index(tuple(channel.astype(np.int64) for channel in channels), ranges)

        def log_prob(values: Any) -> Any:
            shape = tuple(values.shape)
            spread = tf.reshape(values, (*shape, *[1] * len(ranges)))
            whole = self._plain._log_prob(self._plain.prior, tf.broadcast_to(spread, (*shape, *ranges)))
            return tf.gather(tf.reshape(whole, (*shape, -1)), rows, batch_dims=len(shape))

        return log_prob

    def bits(self, log_probs: Any) -> Any:
        axes = tuple(range(-self._config.coding_rank, 0))
        return tf.reduce_sum(log_probs, axis=axes) / -np.log(2)

    def gradients(self, x: Any, perturbed: Any, *indexes: Any) -> list[Any]:
        """Gradients of the summed bits by the array, and by the indexes if the prior has a function of them.

        Args:
          x: The array, less its location.
          perturbed: The array with the noise for which, or around which, the gradients are.
          indexes: One array of a model with indexes.
        """
        if self._config.kind == "power_law":
            with tf.GradientTape() as tape:
                tape.watch(x)
                bits = self._plain.penalty(x)
            return [tape.gradient(bits, x)]
        em, watched = self._plain, list(indexes)
        differentiable = self._has_index_gradient and watched[0].dtype.is_floating

        def of_elements(values: Any, *indexes: Any) -> Any:
            return em._log_prob(em._make_prior(*indexes) if indexes else em.prior, values)

        log_prob: Callable[..., Any] = of_elements
        if watched and not self._case.has_callables:
            log_prob, watched = self.log_prob_of_rows(self.indexes()[0]), []
        with tf.GradientTape() as tape:
            tape.watch([x, perturbed, *watched])
            normalized = [em._normalize_indexes(value) for value in watched]
            expected = self._config.expected_grads
            log_probs, _ = math_ops.perturb_and_apply(
                log_prob, x, *normalized, x_plus_u=perturbed, expected_grads=expected
            )
            bits = self.bits(log_probs)
        sources = [x if expected else perturbed, *(watched if differentiable else [])]
        # TFC has none where a rounded density is flat.
        found: list[Any] = tape.gradient(bits, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return found
