"""TFC's objects of configurations, and the drop-ins with the same arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_compression as tfc
import tensorflow_probability as tfp

from entropyd import tfc as drop_in
from tests.support.tfc_indexed import parameter_functions
from tests.support.tfc_models import tfc_prior

if TYPE_CHECKING:
    import entropyd

_CLASSES = {
    "universal_batched": "UniversalBatchedEntropyModel",
    "continuous_batched": "ContinuousBatchedEntropyModel",
    "continuous_indexed": "ContinuousIndexedEntropyModel",
    "location_scale_indexed": "LocationScaleIndexedEntropyModel",
    "universal_indexed": "UniversalIndexedEntropyModel",
    "power_law": "PowerLawEntropyModel",
}
_NOT_TFCS = {"prior", "tables", "prior_shape", "cdf", "cdf_offset"}


def tfc_object(
    config: Any, bottleneck_dtype: str, *, functions: bool = False, client: entropyd.Client | None = None
) -> Any:
    """TFC's object of a configuration.

    Args:
      config: Of any kind, without supplied tables.
      bottleneck_dtype: In the place of the configuration's.
      functions: Whether the object gets functions of the index, not the densities at all indexes.
      client: Of the drop-in in the place of TFC's class, if one is wanted.
    """
    name = _CLASSES[config.kind]
    the_class = getattr(tfc, name) if client is None else getattr(drop_in, f"Remote{name}")
    arguments = {
        field: getattr(config, field)
        for field in config.fields
        if field not in _NOT_TFCS and getattr(config, field) is not None
    }
    arguments["bottleneck_dtype"] = bottleneck_dtype
    if config.prior is not None:
        arguments |= _of_prior(config, functions=functions)
        mass = arguments["laplace_tail_mass"]
        arguments["laplace_tail_mass"] = tf.constant(mass, config.prior.dtype)
    if config.kind == "continuous_indexed":
        arguments["channel_axis"] = config.channel_axis
    if client is not None:
        arguments["client"] = client
    return the_class(**arguments)


def _of_prior(config: Any, *, functions: bool) -> dict[str, Any]:
    if config.index_ranges is None:
        return {"prior": tfc_prior(config.prior)}
    if functions:
        family, parameters = _constructor(config.prior.family), parameter_functions(config)
    else:
        fixed = tfc_prior(config.prior.on_grid())
        family, parameters = (lambda **_: fixed), {}
    if config.kind == "location_scale_indexed":
        scale = parameters.get("scale", lambda _: 1.0)
        return {"prior_fn": family, "num_scales": config.num_scales, "scale_fn": scale}
    return {"prior_fn": family, "index_ranges": config.index_ranges, "parameter_fns": parameters}


def _constructor(family: str) -> Any:
    module, _, name = family.rpartition(".")
    return getattr(tfp.distributions if module else tfc, name)
