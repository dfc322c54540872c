"""Reads priors from distribution objects of TensorFlow, without importing it: classes are recognised by name.

Invariant: the prior makes the same density again, with the present values of variables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.families import FAMILIES
from entropyd.contract.prior import Prior

_SOURCES = ("tensorflow_compression.", "tensorflow_probability.")
# Not in TFC's public namespace; each is a UniformNoiseAdapter of its base.
_NOISY_ADAPTERS = ("NoisyRoundAdapter", "NoisySoftRoundAdapter")


def prior_of(distribution: Any) -> Prior:
    """The prior of a `tfp.distributions.Distribution`.

    Args:
      distribution: Of a family that docs/priors.md lists.

    Raises:
      InvalidConfigError: If it is of another family, or of a subclass of one.
    """
    kind = type(distribution)
    family = kind.__name__
    if kind.__module__.startswith(_SOURCES):
        if family in _NOISY_ADAPTERS:
            return Prior("UniformNoiseAdapter", {"base": prior_of(distribution.base)})
        if kind.__module__.startswith("tensorflow_probability."):
            family = f"tfp.{family}"
        if family in FAMILIES:
            return Prior(family, _parameters(family, distribution))
    name = f"{kind.__module__}.{kind.__qualname__}"
    raise InvalidConfigError.at("prior", f"is a {name:.200}, which entropyd does not know")


def _parameters(family: str, distribution: Any) -> dict[str, Any]:
    known = FAMILIES[family]
    parameters: dict[str, Any] = {}
    if "alpha" in known.arrays:
        adapter = distribution if known.nested else distribution.base
        parameters["alpha"] = _array(adapter._alpha, distribution)  # noqa: SLF001 - it has no public name
    if known.network:
        network = _innermost(distribution)
        for variable in network.variables:
            name = variable.name.rpartition("/")[-1].partition(":")[0]
            parameters[name] = variable.numpy()
        return {**parameters, "batch_shape": tuple(network.batch_shape)}
    if "weight" in known.arrays:
        # TFC's mixtures have components with noise; `base` is the mixture without.
        mixture = getattr(distribution, "base", distribution)
        parameters["weight"] = _weights(mixture)
        if known.nested:
            return {**parameters, "components": prior_of(mixture.components_distribution)}
        source = mixture.components_distribution
    elif known.nested:
        return {**parameters, "base": prior_of(distribution.base)}
    else:
        source = _innermost(distribution)
    for name in known.arrays:
        if name not in parameters:
            parameters[name] = _array(source.parameters[name], distribution)
    return parameters


def _innermost(distribution: Any) -> Any:
    while hasattr(distribution, "base"):
        distribution = distribution.base
    return distribution


def _weights(mixture: Any) -> np.ndarray[Any, Any]:
    categorical = mixture.mixture_distribution
    return _array(categorical.probs_parameter(), mixture)


def _array(value: Any, distribution: Any) -> np.ndarray[Any, Any]:
    return np.asarray(value, distribution.dtype.as_numpy_dtype)
