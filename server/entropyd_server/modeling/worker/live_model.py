"""A TFC entropy model in memory, compiled for the calls that it gets.

Owns the compiled functions of one model. It must not know who calls, nor look at coding tables: bit costs
need none, so a model is rebuilt from its configuration in a moment. Invariant: with training=False, what a
unit gets depends on the unit alone, to the bit, whatever else is in the batch (see `padding`).

Only worker processes import this module: it imports TensorFlow.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import tensorflow as tf

from entropyd_server.modeling.perturbation import Perturbed
from entropyd_server.modeling.worker.entropy_model import entropy_model
from entropyd_server.modeling.worker.padding import LONE_UNIT_ELEMENTS, padding_units
from entropyd_server.modeling.worker.priors import distribution
from entropyd_server.modeling.worker.table_shape import coding_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd.contract.config import UniversalBatchedConfig
    from entropyd_server.modeling.perturbation import Array, PerturbKey

# Growth of the process for one compiled function, measured: 3 to 20 MB for the first ones, less later.
_FUNCTION_BYTES = 4 * 2**20


class LiveModel:
    """TFC's model of one configuration, for bit costs."""

    def __init__(self, config: UniversalBatchedConfig) -> None:
        self._config = config
        self._model = entropy_model(config, distribution(config.prior), compression=False)
        self._compiled: dict[tuple[bool, bool], Callable[[Any], tuple[Any, ...]]] = {}

    @property
    def nbytes(self) -> int:
        """An estimate of the memory that it keeps, with everything compiled that can be."""
        return 4 * _FUNCTION_BYTES + 4 * len(self._config.canonical_json)

    def perturb(self, key: PerturbKey, units: Array) -> Perturbed:
        """The class's `__call__` on each unit.

        16-bit bottlenecks are computed in float32, as when they are coded, and rounded once at the end.

        Args:
          key: Says what is wanted.
          units: [units, *coding shape] in the bottleneck's dtype; uint16 bit patterns for bfloat16.
        """
        elements = max(prod(units.shape[1:]), prod(self._config.prior_shape))
        if elements > LONE_UNIT_ELEMENTS and len(units) > 1:
            return Perturbed.join([self.perturb(key, units[i : i + 1]) for i in range(len(units))])
        padding = 0
        if not key.training and elements <= LONE_UNIT_ELEMENTS:
            padding = padding_units(len(units), elements)
        padded = np.concatenate([units, np.repeat(units[-1:], padding, axis=0)]) if padding else units
        dtype = self._config.bottleneck_dtype
        wide = padded.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else padded
        answer = self._function(key)(tf.constant(wide.astype(coding_dtype(dtype), copy=False)))
        perturbed, bits, *gradient = (part.numpy()[: len(units)] for part in answer)
        return Perturbed(self._narrowed(perturbed), bits, self._narrowed(gradient[0]) if gradient else None)

    def _narrowed(self, array: Array) -> Array:
        dtype = self._config.bottleneck_dtype
        with np.errstate(over="ignore"):  # beyond float16's range, infinity is the nearest value
            if dtype == "bfloat16":
                return array.astype(ml_dtypes.bfloat16).view(np.uint16)
            return array.astype(dtype, copy=False)

    def _function(self, key: PerturbKey) -> Callable[[Any], tuple[Any, ...]]:
        wanted = (key.training, key.gradient)
        if wanted not in self._compiled:
            self._compiled[wanted] = self._compile(training=key.training, gradient=key.gradient)
        return self._compiled[wanted]

    def _compile(self, *, training: bool, gradient: bool) -> Callable[[Any], tuple[Any, ...]]:
        """Traces once for all shapes: [units, *coding shape] with no length fixed."""
        model = self._model
        signature = tf.TensorSpec([None] * (1 + model.coding_rank), model.bottleneck_dtype)

        def perturb(units: Any) -> tuple[Any, ...]:
            if not gradient:
                return tuple(model(units, training=training))
            with tf.GradientTape() as tape:
                tape.watch(units)
                perturbed, bits = model(units, training=training)
                total = tf.reduce_sum(bits)
            # Rounding is flat: without training noise the gradient is 0, not absent.
            zero = tf.UnconnectedGradients.ZERO
            return perturbed, bits, tape.gradient(total, units, unconnected_gradients=zero)

        compiled: Callable[[Any], tuple[Any, ...]] = tf.function(
            perturb, input_signature=[signature], autograph=False
        )
        return compiled
