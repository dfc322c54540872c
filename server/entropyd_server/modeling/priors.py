"""From a prior as data to the TensorFlow object that TFC takes.

Owns which class and arguments stand for each family. It must not check what the contract has checked.
Invariant: parameters keep their dtype and their shapes, unbroadcast, so that TensorFlow computes what it
would have computed for a caller who made the object from the same arrays.

The classes are those of tensorflow_compression/python/distributions (uniform_noise.py, deep_factorized.py).
Only worker processes import this module: it imports TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.prior import DEEP_FACTORIZED

if TYPE_CHECKING:
    from entropyd.contract.prior import Array, Prior


def distribution(prior: Prior) -> Any:
    """Makes the `tfp.distributions.Distribution` of a prior, of its dtype and batch shape.

    Raises:
      InvalidConfigError: If TensorFlow Probability refuses the shapes.
    """
    if prior.family == DEEP_FACTORIZED:
        return _deep_factorized(prior)
    try:
        return getattr(tfc, prior.family)(**prior.parameters)
    except ValueError as error:
        message = f"has shapes that TensorFlow Probability refuses: {error}"
        raise InvalidConfigError.of([Violation("prior", message)]) from error


def _deep_factorized(prior: Prior) -> Any:
    """Makes a NoisyDeepFactorized and replaces its initial variables, which are random, by the prior's."""
    variables = {
        name: cast("Array", value) for name, value in prior.parameters.items() if name != "batch_shape"
    }
    layers = sum(1 for name in variables if name.startswith("matrix_"))
    noisy = tfc.NoisyDeepFactorized(
        batch_shape=prior.batch_shape,
        num_filters=[variables[f"matrix_{i}"].shape[1] for i in range(layers - 1)],
        dtype=tf.as_dtype(prior.dtype),
    )
    for variable in noisy.base.variables:
        # TFC names its variables by layer; within name scopes, as in `DeepFactorized/matrix_0:0`.
        name = variable.name.rpartition("/")[-1].partition(":")[0]
        variable.assign(variables.pop(name))
    if variables:
        raise RuntimeError(f"TFC's DeepFactorized has no variables {sorted(variables)}")
    return noisy
