"""Makes the TensorFlow distribution of a network prior at given rows of it.

TFC's DeepFactorized (python/distributions/deep_factorized.py) has one network for each element of its batch
shape, which is fixed. Here each element takes the network of its row.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc
from tensorflow_compression.python.distributions import round_adapters

from entropyd.contract.prior import Prior


def network_at(prior: Prior, rows: Any) -> Any:
    """The distribution of a prior with the variables of a DeepFactorized, at rows: int32, of any shape."""
    density: Any = _DeepFactorizedAt(prior, rows)
    if "Soft" in prior.family:
        density = round_adapters.SoftRoundAdapter(density, prior.parameters["alpha"])
    elif "Rounded" in prior.family:
        density = round_adapters.RoundAdapter(density)
    return tfc.UniformNoiseAdapter(density) if prior.family.startswith("Noisy") else density


class _DeepFactorizedAt(tfc.DeepFactorized):  # type: ignore[misc]  # TFC has no types
    def __init__(self, prior: Prior, rows: Any) -> None:
        self._rows = rows
        self._of_row = prior.variables
        layers = sum(name.startswith("matrix_") for name in prior.variables)
        filters = [prior.variables[f"matrix_{i}"].shape[1] for i in range(layers - 1)]
        super().__init__(num_filters=filters, dtype=tf.as_dtype(prior.dtype))

    def _make_variables(self) -> None:
        def picked(kind: str, layers: int) -> list[Any]:
            rows = tf.reshape(self._rows, [-1])
            return [tf.gather(tf.constant(self._of_row[f"{kind}_{i}"]), rows) for i in range(layers)]

        hidden = len(self.num_filters)
        self._matrices, self._biases = picked("matrix", hidden + 1), picked("bias", hidden + 1)
        self._factors = picked("factor", hidden)

    def _batch_shape(self) -> Any:
        return self._rows.shape

    def _batch_shape_tensor(self) -> Any:
        return tf.shape(self._rows)

    def _logits_cumulative(self, inputs: Any) -> Any:
        """As TFC's, but for the number of networks, which is known when it is called."""
        shape = tf.shape(inputs)
        logits = tf.transpose(tf.reshape(inputs, (-1, 1, tf.size(self._rows))), (2, 1, 0))
        for i, matrix in enumerate(self._matrices):
            logits = tf.linalg.matmul(tf.nn.softplus(matrix), logits) + self._biases[i]
            if i < len(self._factors):
                logits += tf.math.tanh(self._factors[i]) * tf.math.tanh(logits)
        return tf.reshape(tf.transpose(logits, (2, 1, 0)), shape)
