"""Has TFC quantize densities by our kernel where its own op is slow; the integers are the same."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow_compression.python.ops import gen_ops

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

# The op takes milliseconds for rows of so many intervals that it has to lower by so much.
_QUICK_INTERVALS = 1024
_QUICK_EXCESS = 2**18
# It counts in int32.
_MAX_SUM = 2**31 - 1


@contextmanager
def quick_quantization() -> Iterator[None]:
    """Replaces TFC 2.14.1's `pmf_to_quantized_cdf` in the `with` block.

    A worker serves one request at a time, so nothing else sees the replaced function.
    """
    op = gen_ops.pmf_to_quantized_cdf

    def quantized(pmf: Any, precision: int) -> Any:
        density = pmf.numpy()
        if not is_slow(density, precision):
            return op(pmf, precision=precision)
        # Not before it is needed: it loads Numba.
        from entropyd_server.kernels.pmf_to_cdf import quantized_cdf  # noqa: PLC0415

        return tf.constant(quantized_cdf(density, precision))

    gen_ops.pmf_to_quantized_cdf = quantized
    try:
        yield
    finally:
        gen_ops.pmf_to_quantized_cdf = op


def is_slow(pmf: npt.NDArray[np.float32], precision: int) -> bool:
    """Whether the kernel is quicker than the op for a density, on which the op counts without an overflow.

    So it is for long rows, and where one element alone is to be lowered by much: a density of 10^5, say.

    Args:
      pmf: float32 [intervals].
      precision: 1 to 16.
    """
    if not (np.isfinite(pmf) & (pmf >= 0)).all():
        return False
    counts = np.maximum(pmf.astype(np.float64) * (1 << precision), 1)
    excess = counts.sum() - (1 << precision)
    alone = excess > _QUICK_EXCESS and np.count_nonzero(counts >= 1.5) == 1
    return bool((alone or len(pmf) > _QUICK_INTERVALS) and excess < _MAX_SUM - 2**17)
