"""TFC's UniversalBatchedEntropyModel of a configuration.

Bottlenecks of 16 bits, for which it cannot be built, are computed in float32.
"""

from __future__ import annotations

from typing import Any

import tensorflow_compression as tfc

from entropyd.contract.dtypes import Array, coding_dtype
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd_server.modeling.worker.kinds.kind import Kind, common_arguments
from entropyd_server.modeling.worker.kinds.universal import exact_dither, row_offsets


def _entropy_model(
    config: UniversalBatchedConfig, prior: Any, dtype: str, offsets: Array | None, compression: bool
) -> Any:
    del offsets  # TFC computes the same
    return tfc.UniversalBatchedEntropyModel(
        prior,
        compression=compression,
        num_noise_levels=config.num_noise_levels,
        decode_sanity_check=config.decode_sanity_check,
        **common_arguments(config, dtype),
    )


def _call(model: Any, units: Any, *, training: bool) -> tuple[Any, Any]:
    with exact_dither():
        return model(units, training=training)  # type: ignore[no-any-return]


KIND = Kind(
    lambda config: coding_dtype(config.bottleneck_dtype),
    _entropy_model,
    row_offsets=row_offsets,
    call=_call,
)
