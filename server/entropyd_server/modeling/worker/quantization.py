"""Has TFC quantize densities by our kernel where its own op is slow; the integers are the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_compression.python.ops import gen_ops

# The op takes milliseconds for rows of so many intervals that it has to lower by so much.
_QUICK_INTERVALS = 1024
# The kernel takes seconds to load, more than the op for so many rows of at most so many intervals.
_FEW_ROWS = 64
_FEW_INTERVALS = 4096
_QUICK_EXCESS = 2**18
# It counts in int32.
_MAX_SUM = 2**31 - 1


@contextmanager
def quick_quantization() -> Iterator[None]:
    """Replaces TFC 2.14.1's `pmf_to_quantized_cdf` in the `with` block.

    A worker serves one request at a time, so nothing else sees the replaced function.
    """
    op = gen_ops.pmf_to_quantized_cdf
    long_rows = 0

    def quantized(pmf: Any, precision: int) -> Any:
        nonlocal long_rows
        density = pmf.numpy()
        long_rows += len(density) > _QUICK_INTERVALS
        if not is_slow(density, precision, _FEW_INTERVALS if long_rows <= _FEW_ROWS else _QUICK_INTERVALS):
            return op(pmf, precision=precision)
        # Not before it is needed: it loads Numba.
        from entropyd_server.kernels.pmf_to_cdf import quantized_cdf  # noqa: PLC0415

        return tf.constant(quantized_cdf(density, precision))

    gen_ops.pmf_to_quantized_cdf = quantized
    try:
        yield
    finally:
        gen_ops.pmf_to_quantized_cdf = op


def is_slow(pmf: npt.NDArray[np.float32], precision: int, most_intervals: int = _QUICK_INTERVALS) -> bool:
    """Whether the kernel is quicker than the op for a density, and the op counts without an overflow.

    So it is for rows of more intervals, and where one element alone has to be lowered by much: a density of
    10^5, say.
    """
    if not (np.isfinite(pmf) & (pmf >= 0)).all():
        return False
    counts = np.maximum(pmf.astype(np.float64) * (1 << precision), 1)
    excess = counts.sum() - (1 << precision)
    alone = excess > _QUICK_EXCESS and np.count_nonzero(counts >= 1.5) == 1
    return bool((alone or len(pmf) > most_intervals) and excess < _MAX_SUM - 2**17)
