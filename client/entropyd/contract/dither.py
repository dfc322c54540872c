"""The shared dither of TFC's universal models (python/entropy_models/universal.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.philox import stateless_uniform_int32

SEED = (1234, 1234)


def noise_levels(count: int, num_noise_levels: int, *, first: int = 0) -> npt.NDArray[np.int32]:
    """Draws the noise levels of elements [first, first + count) of an array: int32 [count]."""
    return stateless_uniform_int32(count, SEED, num_noise_levels, first=first)


def offset_of_level(num_noise_levels: int, dtype: npt.DTypeLike) -> npt.NDArray[np.floating[Any]]:
    """The quantization offset of each noise level: `dtype` [num_noise_levels].

    In float64 whatever the dtype, because TFC divides as Python does and casts afterwards.
    """
    return ((np.arange(num_noise_levels) + 1) / (num_noise_levels + 1) - 0.5).astype(dtype)
