"""A TFC entropy model in memory, compiled for bit costs.

It needs no coding tables, so it is rebuilt from its configuration at once. Invariant: with training=False,
the result of a unit depends on that unit alone, to the bit, whatever else is in the batch (see `padding`).
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from entropyd.contract.dtypes import element_dtype, narrowed, numpy_dtype, widened
from entropyd_server.modeling.perturbation import Perturbed
from entropyd_server.modeling.worker.kinds import kind_of
from entropyd_server.modeling.worker.padding import LONE_UNIT_ELEMENTS, padding_units
from entropyd_server.modeling.worker.priors import distribution

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd.contract.config import ModelConfig
    from entropyd_server.modeling.perturbation import Array, PerturbKey

# Growth of the process for one compiled function, measured: 3 to 20 MB for the first ones, less later.
_FUNCTION_BYTES = 4 * 2**20


class LiveModel:
    """TFC's model of one configuration, for bit costs."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        kind, prior = kind_of(config), distribution(config.needed_prior)
        self._dtype = kind.dtype(config)
        offsets = kind.row_offsets(config, prior, self._dtype)
        self._model = kind.entropy_model(config, prior, self._dtype, offsets, False)  # noqa: FBT003 - compression
        self._compiled: dict[tuple[bool, bool], Callable[[Any], tuple[Any, ...]]] = {}

    @property
    def nbytes(self) -> int:
        """An estimate of the memory that it keeps, with everything compiled that can be."""
        return 4 * _FUNCTION_BYTES + 4 * len(self._config.canonical_json)

    def perturb(self, key: PerturbKey, units: Array) -> Perturbed:
        """The class's `__call__` on each unit.

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
        answer = self._function(key)(tf.constant(self._computed(padded)))
        perturbed, bits, *gradient = (part.numpy()[: len(units)] for part in answer)
        return Perturbed(self._elements(perturbed), bits, self._elements(gradient[0]) if gradient else None)

    def _computed(self, elements: Array) -> Array:
        """Elements of a bottleneck in the dtype in which TFC computes with them."""
        dtype = self._config.bottleneck_dtype
        if self._dtype != dtype:
            return widened(elements, dtype)
        return elements.view(numpy_dtype(dtype)) if dtype == "bfloat16" else elements

    def _elements(self, computed: Array) -> Array:
        """The reverse of `_computed`, rounded to the bottleneck's dtype."""
        dtype = self._config.bottleneck_dtype
        return narrowed(computed, dtype) if self._dtype != dtype else computed.view(element_dtype(dtype))

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
