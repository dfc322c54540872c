"""TFC's PowerLawEntropyModel of a configuration. Its bits are the class's penalty, in natural units."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array
from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd_server.modeling.worker.kinds.kind import Kind


def _entropy_model(
    config: PowerLawConfig, _prior: None, dtype: str, _offsets: Array | None, _compression: bool
) -> Any:
    return tfc.PowerLawEntropyModel(config.coding_rank, config.alpha, tf.as_dtype(dtype))


def _call(model: Any, units: Any, *, training: bool) -> tuple[Any, Any]:
    del training  # the class knows no noise
    return model(units)  # type: ignore[no-any-return]


KIND = Kind(
    lambda config: str(config.bottleneck_dtype),
    _entropy_model,
    prior=lambda _config: None,
    call=_call,
    compiled=False,
)
