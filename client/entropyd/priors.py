"""One constructor per prior, named as in TensorFlow Compression.

Each makes a density over the noise-perturbed bottleneck for `entropyd.UniversalBatchedConfig`. Parameters
are numbers or arrays; arrays keep their dtype (float32 or float64), numbers and lists take it from the
arrays, and are float32 where there are none, as in TensorFlow Probability. A parameter that cannot be is
refused with InvalidConfigError here, before anything is sent.
"""

from __future__ import annotations

from math import expm1, log, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.config import dtype_name
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.prior import DEEP_FACTORIZED, DTYPES, Prior, integers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = [
    "NoisyDeepFactorized",
    "NoisyLaplace",
    "NoisyLogistic",
    "NoisyLogisticMixture",
    "NoisyNormal",
    "NoisyNormalMixture",
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


def NoisyDeepFactorized(
    batch_shape: Sequence[int] = (),
    num_filters: Sequence[int] = (3, 3),
    init_scale: float = 10,
    dtype: Any = np.float32,
    variables: Mapping[str, npt.ArrayLike] | None = None,
) -> Prior:
    """Density whose cumulative is a small neural network, with uniform noise added.

    From appendix 6.1 of "Variational image compression with a scale hyperprior" (Ballé et al., 2018). The
    variables are part of the model's identity. TFC draws the initial biases at random, so two such models
    never agree; here they come from a fixed stream, so that the same arguments always make the same model.

    Args:
      batch_shape: The prior_shape.
      num_filters: Filters of each hidden layer.
      init_scale: Scale of the initial density; choose it wide enough for most values to be likely.
      dtype: float32 or float64.
      variables: Trained values that replace initial ones: `matrix_i` [channels, filters of layer i,
        filters of layer i - 1], `bias_i` and `factor_i` [channels, filters of layer i, 1].
    """
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
    return Prior(DEEP_FACTORIZED, {"batch_shape": shape, **initial, **(variables or {})})


def _initial(
    shape: tuple[int, ...], hidden: tuple[int, ...], init_scale: float, dtype: str
) -> dict[str, npt.NDArray[Any]]:
    """Initial variables of a NoisyDeepFactorized: deep_factorized.py, _make_variables."""
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
