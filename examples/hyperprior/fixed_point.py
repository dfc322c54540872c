"""Layers in fixed point, so that every machine computes the same numbers.

Sums of floats depend on their order, which differs with the library, the device and the number of threads.
What a decoder predicts then differs in its last bit, and with it, now and then, the index of a scale.

Invariant: every value is a multiple of 2^-8, every weight one of 2^-12, and float64 holds every sum of their
products exactly. So any library may compute them, in any order.

After Ballé, Johnston and Minnen, "Integer Networks for Data Compression with Latent-Variable Models" (2019).
"""

from __future__ import annotations

import numpy as np

from examples.hyperprior.networks import Array, NumpyLayers

# Steps of values and weights between two integers, and their bounds. In steps, a kernel of 3x3x256 inputs
# sums at most 2304 products of 2^(8 + 12) and 2^(12 + 4), which is below 2^48.
_VALUE_STEPS, _LARGEST_VALUE = 2.0**8, 2.0**12
_WEIGHT_STEPS, _LARGEST_WEIGHT = 2.0**12, 2.0**4


class FixedPointLayers(NumpyLayers):
    """NumPy's layers in fixed point; arrays are float64."""

    def convolve(self, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        weights = _rounded(kernel, _WEIGHT_STEPS, _LARGEST_WEIGHT)
        total = super().convolve(_value(x), weights, None if bias is None else _value(bias))
        return _value(total)

    def rectify(self, x: Array) -> Array:
        return np.maximum(x, _value(x / 8))


def _value(x: Array) -> Array:
    return _rounded(x, _VALUE_STEPS, _LARGEST_VALUE)


def _rounded(x: Array, steps: float, largest: float) -> Array:
    """The nearest multiple of 1 / steps. As that is a power of two, nothing else is rounded."""
    return (np.floor(x.astype(np.float64) * steps + 0.5) / steps).clip(-largest, largest)
