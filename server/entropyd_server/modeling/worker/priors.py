"""Makes the TensorFlow distribution of a prior.

Invariant: parameters keep their dtypes and shapes, unbroadcast, so TensorFlow computes what it would for a
caller who made the object from the same arrays.

The classes are those of tensorflow_compression/python/distributions (uniform_noise.py, deep_factorized.py,
round_adapters.py) and of tensorflow_probability.distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_compression as tfc
import tensorflow_probability as tfp
from tensorflow_compression.python.distributions import round_adapters

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.families import FAMILIES, NOISE_ADAPTER
from entropyd.contract.prior import Prior

Parameter: TypeAlias = "Callable[[Prior, str, Any, int], Any]"
Network: TypeAlias = "Callable[[Prior], Any]"

_MIXTURES: dict[str, Callable[..., Any]] = {
    "NoisyMixtureSameFamily": tfc.NoisyMixtureSameFamily,
    "tfp.MixtureSameFamily": tfp.distributions.MixtureSameFamily,
}


def distribution(
    prior: Prior,
    parameter: Parameter = lambda _prior, _name, value, _components: value,
    network: Network | None = None,
) -> Any:
    """Makes the `tfp.distributions.Distribution` of a prior, of its dtype and batch shape.

    Args:
      prior: The prior.
      parameter: `(prior, name, value, components)`: what stands for a parameter that is no prior.
        `components` counts the last axes that are those of mixtures.
      network: `(prior)`: what stands for a prior with the variables of a DeepFactorized; None for
        `variable_network`.

    Raises:
      InvalidConfigError: If TensorFlow Probability refuses the shapes.
    """
    try:
        return _distribution(prior, parameter, network or variable_network, 0)
    except ValueError as error:
        message = f"has shapes that TensorFlow Probability refuses: {error}"
        raise InvalidConfigError.at("prior", message) from error


def _distribution(prior: Prior, parameter: Parameter, network: Network, components: int) -> Any:
    if prior.family == NOISE_ADAPTER and prior.parameters["base"].family == "tfp.MixtureSameFamily":
        # The same density: noise on a mixture is a mixture of components with noise. TFP 0.22's mixture has
        # no `_cdf`, without which TFC's adapter cannot stand on it.
        same = Prior("NoisyMixtureSameFamily", prior.parameters["base"].parameters, prior.index_ranges)
        return _distribution(same, parameter, network, components)
    if FAMILIES[prior.family].network:
        return network(prior)
    components += "weight" in prior.parameters
    parameters = {
        name: _distribution(value, parameter, network, components)
        if isinstance(value, Prior)
        else parameter(prior, name, value, components)
        for name, value in prior.parameters.items()
    }
    if prior.family in _MIXTURES:
        weights = tfp.distributions.Categorical(probs=parameters["weight"])
        return _MIXTURES[prior.family](weights, parameters["components"])
    return _class(prior.family)(**parameters)


def _class(family: str) -> Callable[..., Any]:
    """The class of a family of `contract.families`."""
    source, _, name = family.rpartition(".")
    if source == "tfp":
        return getattr(tfp.distributions, name)  # type: ignore[no-any-return]
    # Not all of these are in TFC's public namespace.
    return getattr(round_adapters, name, None) or getattr(tfc, name)  # type: ignore[no-any-return]


def variable_network(prior: Prior) -> Any:
    """A DeepFactorized with the prior's variables in the place of random ones."""
    variables = dict(prior.variables)
    layers = sum(1 for name in variables if name.startswith("matrix_"))
    extra = {name: prior.parameters[name] for name in FAMILIES[prior.family].arrays}
    made = _class(prior.family)(
        batch_shape=prior.batch_shape,
        num_filters=[variables[f"matrix_{i}"].shape[1] for i in range(layers - 1)],
        dtype=tf.as_dtype(prior.dtype),
        **extra,
    )
    for name, variable in network_variables(made).items():
        variable.assign(variables.pop(name))
    if variables:
        raise RuntimeError(f"TFC's DeepFactorized has no variables {sorted(variables)}")
    return made


def network_variables(distribution: Any) -> dict[str, Any]:
    """The variables of a DeepFactorized by name, whatever adapters are around it; none of anything else."""
    while hasattr(distribution, "base"):
        distribution = distribution.base
    # TFC names its variables by layer; within name scopes, as in `DeepFactorized/matrix_0:0`.
    named = {
        variable.name.rpartition("/")[-1].partition(":")[0]: variable for variable in distribution.variables
    }
    return {
        name: variable for name, variable in named.items() if name.startswith(("matrix", "bias", "factor"))
    }
