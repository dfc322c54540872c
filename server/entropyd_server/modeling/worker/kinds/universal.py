"""The dither of universal kinds, as TFC (python/entropy_models/universal.py) has it outside of graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_compression.python.entropy_models import universal

from entropyd.contract.dtypes import Array


def row_offsets(config: Any, _prior: Any, dtype: str) -> Array:
    """As `_range_coding_offsets`: [num_noise_levels, 1...]."""
    levels = np.arange(config.num_noise_levels, dtype=dtype)
    offsets: Array = (levels + 1) / (config.num_noise_levels + 1) - 0.5
    return offsets.reshape(-1, *(1 for _ in config.prior_shape))


@contextmanager
def exact_dither(draw: Callable[[Any, int], Any] | None = None) -> Iterator[None]:
    """Has TFC 2.14.1 look offsets up while it is traced in the `with` block.

    It divides by num_noise_levels + 1, for which a graph multiplies by the reciprocal: another last bit than
    where arrays are decoded. Offsets are those of int32 levels.

    A worker serves one request at a time, so nothing else sees the replaced functions.

    Args:
      draw: Takes the place of `_add_offset_indexes`, if given.
    """
    replaced = universal._add_offset_indexes, universal._offset_indexes_to_offset  # noqa: SLF001

    def looked_up(levels: Any, num_noise_levels: int, dtype: Any) -> Any:
        offsets = np.arange(1, num_noise_levels + 1) / (num_noise_levels + 1) - 0.5
        return tf.gather(tf.constant(offsets.astype(dtype.as_numpy_dtype)), levels)

    universal._offset_indexes_to_offset = looked_up  # noqa: SLF001
    universal._add_offset_indexes = draw or replaced[0]  # noqa: SLF001
    try:
        yield
    finally:
        universal._add_offset_indexes, universal._offset_indexes_to_offset = replaced  # noqa: SLF001
