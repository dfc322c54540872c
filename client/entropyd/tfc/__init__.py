"""TensorFlow Compression's own classes, with the coding done by a server.

Needs tensorflow-compression 2.14; no other part of the client imports TensorFlow. The remote classes
train where their variables live: only `compress`, `decompress` and the building of tables are calls to the
server. `rate` is for training with a model that lives there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tensorflow_compression as tfc

from entropyd import Client, Model
from entropyd._distributions import prior_of
from entropyd.contract.config import ModelConfig
from entropyd.tfc import (
    continuous_batched,
    continuous_indexed,
    location_scale_indexed,
    power_law,
    universal_batched,
    universal_indexed,
)
from entropyd.tfc.continuous_batched import RemoteContinuousBatchedEntropyModel
from entropyd.tfc.continuous_indexed import RemoteContinuousIndexedEntropyModel
from entropyd.tfc.location_scale_indexed import RemoteLocationScaleIndexedEntropyModel
from entropyd.tfc.power_law import RemotePowerLawEntropyModel
from entropyd.tfc.rates import rate
from entropyd.tfc.universal_batched import RemoteUniversalBatchedEntropyModel
from entropyd.tfc.universal_indexed import RemoteUniversalIndexedEntropyModel

__all__ = [
    "RemoteContinuousBatchedEntropyModel",
    "RemoteContinuousIndexedEntropyModel",
    "RemoteLocationScaleIndexedEntropyModel",
    "RemotePowerLawEntropyModel",
    "RemoteUniversalBatchedEntropyModel",
    "RemoteUniversalIndexedEntropyModel",
    "custom_objects",
    "prior_of",
    "rate",
    "register",
]

# How a configuration is read from an object of each class, with its tables; a class before its base.
_CLASSES: Mapping[type[Any], Callable[[Any], ModelConfig]] = {
    tfc.UniversalBatchedEntropyModel: universal_batched.config_of,
    tfc.ContinuousBatchedEntropyModel: continuous_batched.config_of,
    tfc.LocationScaleIndexedEntropyModel: location_scale_indexed.config_of,
    tfc.ContinuousIndexedEntropyModel: continuous_indexed.config_of,
    tfc.UniversalIndexedEntropyModel: universal_indexed.config_of,
    tfc.PowerLawEntropyModel: power_law.config_of,
}
_REMOTE = (
    RemoteUniversalBatchedEntropyModel,
    RemoteContinuousBatchedEntropyModel,
    RemoteContinuousIndexedEntropyModel,
    RemoteLocationScaleIndexedEntropyModel,
    RemoteUniversalIndexedEntropyModel,
    RemotePowerLawEntropyModel,
)


def custom_objects(client: Client) -> dict[str, Callable[..., Any]]:
    """The remote classes by name: Keras's `custom_objects`, to make objects that use the client."""
    return {remote.__name__: partial(remote, client=client) for remote in _REMOTE}


def register(client: Client, em: Any) -> Model:
    """Registers a model of TFC with its exact tables and weights.

    Strings that it made decode remotely, and the other way round.

    Args:
      client: Connected to the server.
      em: Of a class that entropyd serves, trained or not; with `compression=False` the remote model only
        estimates bit costs.

    Raises:
      InvalidConfigError: If the prior is of a family that entropyd does not know.
      RuntimeError: If the object has no prior any more, and its class needs one.
      TypeError: If it is of another class.
    """
    for served, config_of in _CLASSES.items():
        if isinstance(em, served):
            return client.create_model(config_of(em))
    expected = ", ".join(served.__name__ for served in _CLASSES)
    raise TypeError(f"em is a {type(em).__name__}; expected one of {expected}")
