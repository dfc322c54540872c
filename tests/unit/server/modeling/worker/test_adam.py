"""Our Adam is Keras's."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="the modeling plane needs TensorFlow 2.14")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_those_of_keras(dtype: str) -> None:
    from entropyd_server.modeling.worker.adam import Adam  # noqa: PLC0415 - imports TensorFlow

    rng = np.random.default_rng(0)
    ours, theirs = ([tf.Variable(np.ones(shape, dtype)) for shape in ((3,), (2, 2))] for _ in range(2))
    adam, keras = Adam(ours, 0.05), tf.keras.optimizers.Adam(0.05)
    for step in range(40):
        if step == 20:
            for optimizer in (adam, keras):
                optimizer.learning_rate.assign(0.01)
        gradients = [tf.constant(rng.normal(0, 1 + step, variable.shape).astype(dtype)) for variable in ours]
        adam.apply(gradients)
        keras.apply_gradients(zip(gradients, theirs, strict=True))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=2e-4, atol=1e-6)
