"""A prior whose parameters are TensorFlow variables.

Each parameter's variable is transformed into its domain. Invariant: whatever values the variables take,
`current` is a prior, or an error that says that they diverged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.families import FAMILIES
from entropyd.contract.parameters import Array
from entropyd.contract.prior import Prior
from entropyd_server.modeling.worker.priors import distribution, network_variables

# Weights of 0 have no logarithm; nearer to 0 than this they would never grow.
_LEAST_WEIGHT = 1e-6


class TrainablePrior:
    """Variables in the place of a prior's parameters; `alpha` of a soft rounding and bounds stay as they are.

    Attributes:
      distribution: Reads the variables whenever it is evaluated.
      variables: All of them.
    """

    def __init__(self, prior: Prior) -> None:
        self._prior = prior
        self._values: dict[tuple[int, str], Callable[[], Array]] = {}
        self.variables: list[Any] = []
        self.distribution = distribution(prior, self._parameter)
        self._network = network_variables(self.distribution)
        self.variables += self._network.values()

    def current(self) -> Prior:
        """The prior with the variables as they are now.

        Raises:
          InvalidConfigError: If they diverged.
        """
        try:
            return self._current(self._prior)
        except InvalidConfigError as error:
            found = "diverged: begin nearer to the samples, or with a family that fits them"
            raise InvalidConfigError.at("prior", found) from error

    def _current(self, prior: Prior) -> Prior:
        network = {name: variable.numpy() for name, variable in self._network.items()}
        parameters: dict[str, Any] = {}
        for name, value in prior.parameters.items():
            if isinstance(value, Prior):
                parameters[name] = self._current(value)
            elif (id(prior), name) in self._values:
                parameters[name] = self._values[id(prior), name]()
            else:
                parameters[name] = network.get(name, value)
        return Prior(prior.family, parameters)

    def _parameter(self, prior: Prior, name: str, array: Array, _components: int) -> Any:
        family = FAMILIES[prior.family]
        domain = family.arrays[name]
        if domain == "one positive" or (family.rising is not None and name in family.rising):
            return array
        transform: Callable[[Any], Any] = tf.identity
        start = array
        if domain == "positive":
            transform, start = tf.exp, np.log(array)
        elif domain == "weight":
            transform, start = tf.nn.softmax, np.log(np.maximum(array, _LEAST_WEIGHT))
        variable = tf.Variable(start.astype(array.dtype), name=name)
        self.variables.append(variable)
        self._values[id(prior), name] = lambda: transform(variable).numpy()
        # Read inside each evaluation, where TFC's expected gradients look for variables.
        return tfp.util.DeferredTensor(variable, transform)
