"""A TFC entropy model in memory, compiled for bit costs.

It needs no coding tables, so it is quickly rebuilt from its configuration. Invariant: with training=False,
the result of a unit depends on that unit alone, to the bit (see `_padding_units`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import gcd, prod
from typing import Any

import numpy as np
import tensorflow as tf

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import element_dtype, narrowed, numpy_dtype, widened
from entropyd_server.modeling.perturbation import Array, Perturbed, PerturbKey, PerturbUnits
from entropyd_server.modeling.worker.kinds import kind_of

# Growth of the process for one compiled function, measured: 3 to 20 MB for the first ones, less later.
_FUNCTION_BYTES = 4 * 2**20
_USUAL_FUNCTIONS = 4
# A multiple of every kernel's step: four packets of 16 float32.
_STEP_ELEMENTS = 64
# From here on a unit is computed alone: joining saves little, and a second row would double the work.
LONE_UNIT_ELEMENTS = 2**16


class LiveModel:
    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._kind = kind = kind_of(config)
        self._dtype = kind.dtype(config)
        prior = kind.prior(config)
        offsets = kind.row_offsets(config, prior, self._dtype)
        self._model = kind.entropy_model(config, prior, self._dtype, offsets, False)  # noqa: FBT003 - compression
        self._compiled: dict[PerturbKey, Callable[..., tuple[Any, ...]]] = {}

    @property
    def nbytes(self) -> int:
        """An estimate, with everything compiled that usually is."""
        functions = max(len(self._compiled), _USUAL_FUNCTIONS)
        return functions * _FUNCTION_BYTES + 4 * len(self._config.canonical_json)

    def perturb(self, key: PerturbKey, units: PerturbUnits) -> Perturbed:
        """What `__call__` of TFC's class gives for each unit, in the dtypes of `Perturbed`.

        Args:
          key: Whether with noise of training, and which gradients.
          units: In the dtypes of `PerturbCall`.
        """
        elements = max(prod(units.units.shape[1:]), prod(self._config.unit_axes))
        if elements > LONE_UNIT_ELEMENTS and len(units) > 1:
            return Perturbed.join([self.perturb(key, units[i : i + 1]) for i in range(len(units))])
        inputs = self._inputs(key, units)
        if not key.training and elements <= LONE_UNIT_ELEMENTS:
            padding = _padding_units(len(units), elements)
            inputs = [np.concatenate([array, np.repeat(array[-1:], padding, axis=0)]) for array in inputs]
        response = self._function(key, inputs)(*map(tf.constant, inputs))
        perturbed, bits, *gradients = (part.numpy()[: len(units)] for part in response)
        bits = bits.view(element_dtype(self._config.bits_dtype))
        gradient = self._elements(gradients.pop(0)) if key.gradient else None
        index_gradient = gradients.pop(0) if key.index_gradient else None
        if index_gradient is not None and key.index_dtype is not None:
            index_gradient = index_gradient.view(element_dtype(key.index_dtype))
        return Perturbed(self._elements(perturbed), bits, gradient, index_gradient)

    def _inputs(self, key: PerturbKey, units: PerturbUnits) -> list[Array]:
        """What `Kind.call` takes, in TensorFlow's dtypes."""
        inputs = [self._computed(units.units)]
        if units.indexes is not None and key.index_dtype is not None:
            inputs.append(_native(units.indexes, key.index_dtype))
        if units.numbers is not None and self._kind.noise_levels is not None:
            unit_shape = units.units.shape[1:]
            inputs.append(self._kind.noise_levels(self._config, units.numbers, unit_shape))
        return inputs

    def _computed(self, elements: Array) -> Array:
        """Elements of a bottleneck in the dtype in which TFC computes with them."""
        dtype = self._config.bottleneck_dtype
        return widened(elements, dtype) if self._dtype != dtype else _native(elements, dtype)

    def _elements(self, computed: Array) -> Array:
        """The reverse of `_computed`, rounded to the bottleneck's dtype."""
        dtype = self._config.bottleneck_dtype
        return narrowed(computed, dtype) if self._dtype != dtype else computed.view(element_dtype(dtype))

    def _function(self, key: PerturbKey, inputs: Sequence[Array]) -> Callable[..., tuple[Any, ...]]:
        """The function of such inputs, compiled once for all units: no length of theirs is fixed."""
        key = replace(key, model_id="", coding_shape=())
        if key not in self._compiled:
            rank = 1 + self._model.coding_rank
            # The axis of the indexes of an element, where there is one, is left.
            signature = [
                tf.TensorSpec([None] * rank + list(array.shape[rank:]), array.dtype) for array in inputs
            ]
            perturb = partial(self._perturbed, key)
            compiled = tf.function(perturb, input_signature=signature, autograph=False)
            self._compiled[key] = compiled if self._kind.compiled else perturb
        return self._compiled[key]

    def _perturbed(self, key: PerturbKey, *inputs: Any) -> tuple[Any, ...]:
        """TFC's own result, and the gradients that the key asks for, by bottleneck and by indexes."""
        sources = [x for x, wanted in zip(inputs, (key.gradient, key.index_gradient), strict=False) if wanted]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            perturbed, bits = self._kind.call(self._model, *inputs, training=key.training)
            total = tf.reduce_sum(bits)
        # Rounding may be flat: its gradient is 0, not absent.
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(total, sources, unconnected_gradients=zero)
        # TFC's expected gradients are of the prior's dtype.
        cast = [tf.cast(gradient, x.dtype) for gradient, x in zip(gradients, sources, strict=True)]
        return perturbed, bits, *cast


def _native(elements: Array, dtype: str) -> Array:
    """Elements as TensorFlow takes them: those of bfloat16 are bit patterns elsewhere."""
    return elements.view(numpy_dtype(dtype)) if dtype == "bfloat16" else elements


def _padding_units(units: int, unit_elements: int) -> int:
    """Number of units to add, so that TensorFlow computes every unit by the same machine instructions.

    Its CPU kernels process an array in packets of a few elements and the rest one element at a time, with
    other approximations of exp, log and tanh; and they sum a single row in another order than several.
    Without it up to half of the results of a small unit differ in their last bits (TensorFlow 2.14).
    """
    multiple = max(_STEP_ELEMENTS // gcd(_STEP_ELEMENTS, max(unit_elements, 1)), 2)
    return -units % multiple
