"""TFC's ContinuousBatchedEntropyModel, built the way a user of TFC would, to compare with."""

from __future__ import annotations

from typing import Any

import tensorflow_compression as tfc

from tests.support.tfc_models import tfc_prior


def tfc_continuous_batched(config: Any) -> Any:
    """TFC's ContinuousBatchedEntropyModel of a configuration without supplied tables."""
    return tfc.ContinuousBatchedEntropyModel(
        tfc_prior(config.prior),
        config.coding_rank,
        compression=config.compression,
        tail_mass=config.tail_mass,
        range_coder_precision=config.range_coder_precision,
        bottleneck_dtype=config.bottleneck_dtype,
        offset_heuristic=config.offset_heuristic,
        quantization_offset=config.quantization_offset,
        decode_sanity_check=config.decode_sanity_check,
    )
