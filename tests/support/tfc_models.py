"""TFC's own models, built in this process the way a user of TFC would, to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc
import tensorflow_probability as tfp
from tensorflow_compression.python.distributions import round_adapters

from entropyd import Prior

if TYPE_CHECKING:
    import numpy.typing as npt


def tfc_model(config: Any) -> Any:
    """TFC's model of a configuration; 16-bit bottlenecks, which it cannot code, are float32 here."""
    wide = config.bottleneck_dtype in {"float32", "float64"}
    return tfc.UniversalBatchedEntropyModel(
        tfc_prior(config.prior),
        config.coding_rank,
        compression=True,
        tail_mass=config.tail_mass,
        range_coder_precision=config.range_coder_precision,
        bottleneck_dtype=config.bottleneck_dtype if wide else "float32",
        num_noise_levels=config.num_noise_levels,
        decode_sanity_check=config.decode_sanity_check,
    )


def tfc_prior(prior: Prior) -> Any:
    """The distribution that a user of TFC would make."""
    parameters: dict[str, Any] = {
        name: tfc_prior(value) if hasattr(value, "family") else value
        for name, value in prior.parameters.items()
    }
    if "base" in parameters and prior.parameters["base"].family == "tfp.MixtureSameFamily":
        # TFC's adapter cannot stand on TFP's mixture; this is the same density.
        return tfc_prior(Prior("NoisyMixtureSameFamily", prior.parameters["base"].parameters))
    distributions = tfp.distributions
    if "matrix_0" in parameters:
        return _network(prior)
    if "components" in parameters:
        weights = distributions.Categorical(probs=parameters["weight"])
        mixture = (
            tfc.NoisyMixtureSameFamily
            if prior.family.startswith("Noisy")
            else distributions.MixtureSameFamily
        )
        return mixture(weights, parameters["components"])
    if prior.family.startswith("tfp."):
        return getattr(distributions, prior.family.removeprefix("tfp."))(**parameters)
    return getattr(tfc if hasattr(tfc, prior.family) else round_adapters, prior.family)(**parameters)


def _network(prior: Prior) -> Any:
    layers = sum(name.startswith("matrix_") for name in prior.parameters)
    filters = [np.shape(prior.parameters[f"matrix_{i}"])[1] for i in range(layers - 1)]
    extra = {"alpha": prior.parameters["alpha"]} if "alpha" in prior.parameters else {}
    density = getattr(tfc, prior.family)(
        batch_shape=prior.batch_shape, num_filters=filters, dtype=tf.as_dtype(prior.dtype), **extra
    )
    for variable in density.trainable_variables:
        variable.assign(prior.parameters[variable.name.split("/")[-1].removesuffix(":0")])
    return density


def tfc_strings(model: Any, bottleneck: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """TFC's bit strings, shaped like the batch."""
    strings = model.compress(bottleneck).numpy()
    if isinstance(strings, bytes):
        scalar = np.empty((), np.object_)
        scalar[()] = strings
        return scalar
    return np.asarray(strings, np.object_)
