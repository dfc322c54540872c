"""One constructor per prior, named as in TensorFlow Compression.

Each makes a density over the noise-perturbed bottleneck for `entropyd.UniversalBatchedConfig`, or the base of
an adapter. Parameters are numbers or arrays. Arrays keep their dtype (float32 or float64); numbers and lists
take the dtype of the arrays, or float32 if there are none, as in TensorFlow Probability. A wrong parameter
raises InvalidConfigError here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import expm1, log, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.dtypes import dtype_name
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.families import FAMILIES
from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.parameters import DTYPES, integers
from entropyd.contract.prior import Prior

__all__ = [
    "DeepFactorized",
    "NoisyDeepFactorized",
    "NoisyLaplace",
    "NoisyLogistic",
    "NoisyLogisticMixture",
    "NoisyMixtureSameFamily",
    "NoisyNormal",
    "NoisyNormalMixture",
    "NoisyRoundedDeepFactorized",
    "NoisyRoundedNormal",
    "NoisySoftRoundedDeepFactorized",
    "NoisySoftRoundedNormal",
    "RoundAdapter",
    "SoftRoundAdapter",
    "UniformNoiseAdapter",
    "affine",
    "exp_affine",
    "indexed",
    "log_spaced",
    "softmax_affine",
    "table",
    "tfp",
]


def NoisyNormal(loc: npt.ArrayLike, scale: npt.ArrayLike) -> Prior:
    """Normal distribution with uniform noise added.

    Args:
      loc: Mean.
      scale: Standard deviation, above 0. It and `loc` broadcast to the prior_shape.
    """
    return Prior("NoisyNormal", {"loc": loc, "scale": scale})


def NoisyLogistic(loc: npt.ArrayLike, scale: npt.ArrayLike) -> Prior:
    """Logistic distribution with uniform noise added.

    Args:
      loc: Mean.
      scale: Scale, above 0. It and `loc` broadcast to the prior_shape.
    """
    return Prior("NoisyLogistic", {"loc": loc, "scale": scale})


def NoisyLaplace(loc: npt.ArrayLike, scale: npt.ArrayLike) -> Prior:
    """Laplace distribution with uniform noise added.

    Args:
      loc: Mean.
      scale: Scale, above 0. It and `loc` broadcast to the prior_shape.
    """
    return Prior("NoisyLaplace", {"loc": loc, "scale": scale})


def NoisyNormalMixture(loc: npt.ArrayLike, scale: npt.ArrayLike, weight: npt.ArrayLike) -> Prior:
    """Mixture of normal distributions with uniform noise added.

    Args:
      loc: Means; the last axis counts components.
      scale: Standard deviations, above 0.
      weight: Weights, summing to 1 along the last axis. All three broadcast to prior_shape + [components].
    """
    return Prior("NoisyNormalMixture", {"loc": loc, "scale": scale, "weight": weight})


def NoisyLogisticMixture(loc: npt.ArrayLike, scale: npt.ArrayLike, weight: npt.ArrayLike) -> Prior:
    """Mixture of logistic distributions with uniform noise added.

    Args:
      loc: Means; the last axis counts components.
      scale: Scales, above 0.
      weight: Weights, summing to 1 along the last axis. All three broadcast to prior_shape + [components].
    """
    return Prior("NoisyLogisticMixture", {"loc": loc, "scale": scale, "weight": weight})


def NoisyMixtureSameFamily(weight: npt.ArrayLike, components: Prior) -> Prior:
    """Mixture of any one family with uniform noise added.

    Args:
      weight: Weights, summing to 1 along the last axis.
      components: Distributions without noise, as `tfp("Laplace", ...)`; the last axis of their batch_shape
        counts components. TFC takes a Categorical in the place of `weight`.
    """
    return Prior("NoisyMixtureSameFamily", {"weight": weight, "components": components})


def NoisyRoundedNormal(loc: npt.ArrayLike, scale: npt.ArrayLike) -> Prior:
    """Normal distribution, rounded to integers, with uniform noise added.

    Args:
      loc: Mean.
      scale: Standard deviation, above 0. It and `loc` broadcast to the prior_shape.
    """
    return Prior("NoisyRoundedNormal", {"loc": loc, "scale": scale})


def NoisySoftRoundedNormal(loc: npt.ArrayLike, scale: npt.ArrayLike, alpha: float = 5.0) -> Prior:
    """Normal distribution, softly rounded, with uniform noise added.

    Args:
      loc: Mean.
      scale: Standard deviation, above 0. It and `loc` broadcast to the prior_shape.
      alpha: Above 0; the larger, the closer to rounding.
    """
    return Prior("NoisySoftRoundedNormal", {"loc": loc, "scale": scale, "alpha": alpha})


def NoisyDeepFactorized(
    batch_shape: Sequence[int] = (),
    num_filters: Sequence[int] = (3, 3),
    init_scale: float = 10,
    dtype: Any = np.float32,
    variables: Mapping[str, npt.ArrayLike] | None = None,
) -> Prior:
    """Density whose cumulative is a small neural network, with uniform noise added.

    From appendix 6.1 of "Variational image compression with a scale hyperprior" (Ballé et al., 2018). The
    variables are part of the model's identity. TFC draws the initial biases at random; here they come from a
    fixed stream, so that the same arguments always make the same model.

    Args:
      batch_shape: The prior_shape.
      num_filters: Filters of each hidden layer.
      init_scale: Scale of the initial density; choose it wide enough for most values to be likely.
      dtype: float32 or float64.
      variables: Trained values that replace initial ones: `matrix_i` [channels, filters of layer i,
        filters of layer i - 1], `bias_i` and `factor_i` [channels, filters of layer i, 1].
    """
    network = _network(batch_shape, num_filters, init_scale, dtype, variables)
    return Prior("NoisyDeepFactorized", network)


def DeepFactorized(
    batch_shape: Sequence[int] = (),
    num_filters: Sequence[int] = (3, 3),
    init_scale: float = 10,
    dtype: Any = np.float32,
    variables: Mapping[str, npt.ArrayLike] | None = None,
) -> Prior:
    """NoisyDeepFactorized without the noise; a base for adapters. Arguments as there."""
    return Prior("DeepFactorized", _network(batch_shape, num_filters, init_scale, dtype, variables))


def NoisyRoundedDeepFactorized(
    batch_shape: Sequence[int] = (),
    num_filters: Sequence[int] = (3, 3),
    init_scale: float = 10,
    dtype: Any = np.float32,
    variables: Mapping[str, npt.ArrayLike] | None = None,
) -> Prior:
    """DeepFactorized, rounded to integers, with uniform noise added. Arguments as NoisyDeepFactorized."""
    network = _network(batch_shape, num_filters, init_scale, dtype, variables)
    return Prior("NoisyRoundedDeepFactorized", network)


def NoisySoftRoundedDeepFactorized(
    batch_shape: Sequence[int] = (),
    num_filters: Sequence[int] = (3, 3),
    init_scale: float = 10,
    dtype: Any = np.float32,
    variables: Mapping[str, npt.ArrayLike] | None = None,
    *,
    alpha: float = 5.0,
) -> Prior:
    """DeepFactorized, softly rounded, with uniform noise added. Arguments as NoisyDeepFactorized, and alpha.

    `alpha` is above 0; the larger, the closer to rounding.
    """
    network = _network(batch_shape, num_filters, init_scale, dtype, variables)
    return Prior("NoisySoftRoundedDeepFactorized", {**network, "alpha": alpha})


def UniformNoiseAdapter(base: Prior) -> Prior:
    """Any distribution that has a cumulative, with uniform noise added.

    Args:
      base: Without noise: DeepFactorized, an adapter that rounds, or one of `tfp`.
    """
    return Prior("UniformNoiseAdapter", {"base": base})


def RoundAdapter(base: Prior) -> Prior:
    """A distribution rounded to integers; a base for UniformNoiseAdapter.

    Args:
      base: Without noise, and no mixture.
    """
    return Prior("RoundAdapter", {"base": base})


def SoftRoundAdapter(base: Prior, alpha: float) -> Prior:
    """A distribution after a differentiable approximation of rounding; a base for UniformNoiseAdapter.

    Args:
      base: Without noise, and no mixture.
      alpha: Above 0; the larger, the closer to rounding.
    """
    return Prior("SoftRoundAdapter", {"base": base, "alpha": alpha})


def tfp(name: str, **parameters: npt.ArrayLike | Prior) -> Prior:
    """A distribution of TensorFlow Probability, without noise; docs/priors.md lists them.

    Args:
      name: Name of its class, as in `Normal`.
      parameters: Its parameters by name, all of them. MixtureSameFamily takes `weight` and `components`.

    Raises:
      InvalidConfigError: If the class is not on the list, or a parameter is wrong.
    """
    if f"tfp.{name}" not in FAMILIES:
        known = ", ".join(family.removeprefix("tfp.") for family in FAMILIES if family.startswith("tfp."))
        raise InvalidConfigError.at("prior.family", f"is tfp.{name!s:.80}; expected one of: {known}")
    return Prior(f"tfp.{name}", parameters)


def indexed(
    family: str, index_ranges: Sequence[int], **parameters: npt.ArrayLike | IndexFunction | Prior
) -> Prior:
    """A density for every index: the prior of `entropyd.ContinuousIndexedConfig` and its like.

    Args:
      family: Name of the constructor here, as in `NoisyNormal`, or `tfp.` and the name of a distribution.
      index_ranges: How many values each index has. A location-scale model takes one range: its scales.
      parameters: By name: a number; an array over the grid of all indexes `[*index_ranges]`; or a function of
        an index, as `log_spaced(0.11, 256)`. Those of a mixture have its components as last axis. `base` or
        `components` is an ordinary prior, or an indexed one of the same ranges.

    Raises:
      InvalidConfigError: Naming every parameter that is wrong, and the index at which it is.
    """
    return Prior(family, parameters, tuple(index_ranges))


def affine(offset: npt.ArrayLike, slope: npt.ArrayLike, *, axis: int = 0) -> IndexFunction:
    """The function offset + slope * i of the index i on one axis of index_ranges.

    Args:
      offset: A number; or [components], for the components of a mixture.
      slope: Likewise; or [components, indexes], which takes all indexes: the slope by each.
      axis: Which index, where there are several, from 0.
    """
    return IndexFunction("affine", {"offset": offset, "slope": slope}, axis)


def exp_affine(offset: npt.ArrayLike, slope: npt.ArrayLike, *, axis: int = 0) -> IndexFunction:
    """The function exp(offset + slope * i). Arguments as `affine`."""
    return IndexFunction("exp_affine", {"offset": offset, "slope": slope}, axis)


def log_spaced(low: npt.ArrayLike, high: npt.ArrayLike, *, axis: int = 0) -> IndexFunction:
    """From `low` at the first index to `high` at the last, each step by the same factor: the usual scales.

    Args:
      low: A number above 0; or [components], for the components of a mixture.
      high: Likewise.
      axis: Which index, where there are several, from 0.
    """
    return IndexFunction("log_spaced", {"low": low, "high": high}, axis)


def softmax_affine(offset: npt.ArrayLike, slope: npt.ArrayLike, *, axis: int = 0) -> IndexFunction:
    """The function softmax(offset + slope * i), over the components of a mixture: its weights.

    Args:
      offset: [components]; or a number, if `slope` counts components.
      slope: [components]; [components, indexes], as of `affine`; or a number, if `offset` counts components.
      axis: Which index, where there are several, from 0.
    """
    return IndexFunction("softmax_affine", {"offset": offset, "slope": slope}, axis)


def table(values: npt.ArrayLike, *, axis: int = 0) -> IndexFunction:
    """The function values[i]; between two integers, as in training, on the line between their values.

    Args:
      values: [range], or [range, components] for a mixture.
      axis: Which index, where there are several, from 0.
    """
    return IndexFunction("table", {"values": values}, axis)


def _network(
    batch_shape: Sequence[int],
    num_filters: Sequence[int],
    init_scale: float,
    dtype: Any,
    variables: Mapping[str, npt.ArrayLike] | None,
) -> dict[str, Any]:
    """Parameters of a DeepFactorized: the given variables, and initial values of the others."""
    shape, violations = integers("prior.batch_shape", batch_shape)
    hidden, problems = integers("prior.num_filters", num_filters)
    violations += problems
    if not 1e-30 < init_scale < 1e30:
        violations.append(Violation("prior.init_scale", f"is {init_scale}; expected 1e-30 < x < 1e30"))
    if dtype_name(dtype) not in DTYPES:
        violations.append(Violation("prior.dtype", f"is {dtype!r:.80}; expected {' or '.join(DTYPES)}"))
    if violations:
        raise InvalidConfigError.of(violations)
    initial = _initial(shape, hidden, init_scale, dtype_name(dtype))
    return {"batch_shape": shape, **initial, **(variables or {})}


def _initial(
    shape: tuple[int, ...], hidden: tuple[int, ...], init_scale: float, dtype: str
) -> dict[str, npt.NDArray[Any]]:
    """Initial variables of a DeepFactorized, as in TFC's deep_factorized.py, _make_variables."""
    channels, filters = prod(shape), [1, *hidden, 1]
    scale = init_scale ** (1 / (len(hidden) + 1))
    # Uniform on [-1/2, 1/2), from the upper 53 bits of Philox4x64-10 with key 0.
    stream = np.random.Philox(key=0)
    initial: dict[str, npt.NDArray[Any]] = {}
    for layer in range(len(hidden) + 1):
        inputs, outputs = filters[layer], filters[layer + 1]
        # softplus of the matrix is then 1 / (scale * outputs).
        weight = log(expm1(1 / scale / outputs))
        initial[f"matrix_{layer}"] = np.full((channels, outputs, inputs), weight, dtype)
        bits = stream.random_raw(channels * outputs) >> np.uint64(11)
        initial[f"bias_{layer}"] = (bits * 2.0**-53 - 0.5).astype(dtype).reshape(channels, outputs, 1)
        if layer < len(hidden):
            initial[f"factor_{layer}"] = np.zeros((channels, outputs, 1), dtype)
    return initial
