"""TFC's own models, built in this process the way a user of TFC would, to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd import Prior, UniversalBatchedConfig


def tfc_model(config: UniversalBatchedConfig) -> Any:
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
    """TFC's distribution of a prior."""
    if prior.family != "NoisyDeepFactorized":
        return getattr(tfc, prior.family)(**prior.parameters)
    layers = sum(name.startswith("matrix_") for name in prior.parameters)
    filters = [np.shape(prior.parameters[f"matrix_{i}"])[1] for i in range(layers - 1)]
    density = tfc.NoisyDeepFactorized(
        batch_shape=prior.batch_shape, num_filters=filters, dtype=tf.as_dtype(prior.dtype)
    )
    for variable in density.base.variables:
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
