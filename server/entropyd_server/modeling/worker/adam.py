"""Adam ("Adam: A Method for Stochastic Optimization", Kingma & Ba, 2015), as Keras computes it.

Not Keras's own: it holds every graph in which it was applied for as long as the process lives, 10 MiB for a
fit (TensorFlow 2.14).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_BETA_1 = 0.9
_BETA_2 = 0.999
_EPSILON = 1e-7


class Adam:
    """An optimizer of variables, of float32 or float64 each.

    Attributes:
      learning_rate: A variable, which may be assigned to.
    """

    def __init__(self, variables: Sequence[Any], learning_rate: float) -> None:
        self.learning_rate = tf.Variable(learning_rate, dtype=tf.float64)
        self._steps = tf.Variable(0.0, dtype=tf.float64)
        self._variables = [
            (variable, tf.Variable(tf.zeros_like(variable)), tf.Variable(tf.zeros_like(variable)))
            for variable in variables
        ]

    def apply(self, gradients: Sequence[Any]) -> None:
        """Takes a step, given the gradient by each variable."""
        self._steps.assign_add(1.0)
        for gradient, (variable, mean, square) in zip(gradients, self._variables, strict=True):
            dtype = variable.dtype
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=tf.cast(_BETA_1**self._steps, dtype),
                beta2_power=tf.cast(_BETA_2**self._steps, dtype),
                lr=tf.cast(self.learning_rate, dtype),
                beta1=tf.constant(_BETA_1, dtype),
                beta2=tf.constant(_BETA_2, dtype),
                epsilon=tf.constant(_EPSILON, dtype),
                grad=gradient,
            )
