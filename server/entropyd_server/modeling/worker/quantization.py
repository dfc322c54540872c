"""Has TFC build its tables without its loop over rows, which takes 2 ms for each; the integers are the same.

Each row is what TFC makes of it: the sum of its densities by TensorFlow's op, whose order of additions
depends on how many there are, and integers by TFC's op `pmf_to_quantized_cdf` or, where that is slow, by our
kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_compression.python.distributions import helpers
from tensorflow_compression.python.entropy_models.continuous_base import ContinuousEntropyModelBase
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
def quick_tables() -> Iterator[None]:
    """Replaces `_build_tables` of TFC 2.14.1 in the `with` block.

    A worker serves one request at a time, so nothing else sees the replaced method.
    """
    replaced = ContinuousEntropyModelBase._build_tables  # noqa: SLF001
    ContinuousEntropyModelBase._build_tables = _build_tables  # noqa: SLF001
    try:
        yield
    finally:
        ContinuousEntropyModelBase._build_tables = replaced  # noqa: SLF001


def _build_tables(model: Any, prior: Any, precision: int, offset: Any = None) -> tuple[Any, Any]:
    """What the method of this name returns: int32 tensors, quantized CDFs and the offset of each.

    Source: tensorflow_compression/python/entropy_models/continuous_base.py.
    """
    offset = tf.cast(0 if offset is None else offset, prior.dtype)
    minima = tf.cast(tf.floor(helpers.lower_tail(prior, model.tail_mass) - offset), tf.int32)
    maxima = tf.cast(tf.math.ceil(helpers.upper_tail(prior, model.tail_mass) - offset), tf.int32)
    lengths = maxima - minima + 1
    longest = tf.reduce_max(lengths)
    places = tf.range(tf.cast(longest, prior.dtype), dtype=prior.dtype)
    places = tf.reshape(places, [-1, *[1] * lengths.shape.rank])
    densities = prior.prob(places + (tf.cast(minima, prior.dtype) + offset)).numpy()
    shape = densities.shape[1:]
    rows = np.ascontiguousarray(densities.reshape(int(longest), -1).T)
    row_lengths = np.broadcast_to(lengths, shape).reshape(-1)
    # Workers with a GPU would copy each row to it and back.
    with tf.device("/cpu:0"):
        cdf = _quantized_rows(rows, row_lengths, int(precision))
        return tf.constant(cdf), tf.constant(np.broadcast_to(minima, shape).reshape(-1))


def _quantized_rows(
    densities: npt.NDArray[Any], lengths: npt.NDArray[np.int32], precision: int
) -> npt.NDArray[np.int32]:
    """TFC's flat tables of densities [rows, longest], each row with what lies outside of it as the escape."""
    one, nothing = densities.dtype.type(1), densities.dtype.type(0)
    # Of each row the precision, and an edge more than it has integers and the escape.
    cdf = np.empty(int(lengths.sum()) + 3 * len(lengths), np.int32)
    end = long_rows = 0
    for row, length in zip(densities, lengths.tolist(), strict=True):
        begin, end = end, end + length + 3
        density = row[:length]
        total = tf.raw_ops.Sum(input=density, axis=0).numpy()
        with np.errstate(over="ignore"):  # TFC's op refuses what float32 cannot hold
            pmf = np.append(density, np.maximum(one - total, nothing)).astype(np.float32)
        long_rows += len(pmf) > _QUICK_INTERVALS
        most_intervals = _FEW_INTERVALS if long_rows <= _FEW_ROWS else _QUICK_INTERVALS
        cdf[begin] = -precision
        cdf[begin + 1 : end] = _quantized(pmf, precision, most_intervals)
    return cdf


def _quantized(pmf: npt.NDArray[np.float32], precision: int, most_intervals: int) -> Any:
    if not is_slow(pmf, precision, most_intervals):
        return gen_ops.pmf_to_quantized_cdf(pmf, precision=precision).numpy()
    # Not before it is needed: it loads Numba.
    from entropyd_server.kernels.pmf_to_cdf import quantized_cdf  # noqa: PLC0415

    return quantized_cdf(pmf, precision)


def is_slow(pmf: npt.NDArray[np.float32], precision: int, most_intervals: int = _QUICK_INTERVALS) -> bool:
    """Whether the kernel is quicker than the op for a density, and the op counts without an overflow.

    So it is for rows of more intervals, and where one element alone has to be lowered by much: a density of
    10^5, say.
    """
    if len(pmf) <= most_intervals and pmf.max() * 2.0**precision * len(pmf) <= _QUICK_EXCESS:
        return False
    if not (np.isfinite(pmf) & (pmf >= 0)).all():
        return False
    counts = np.maximum(pmf.astype(np.float64) * (1 << precision), 1)
    excess = counts.sum() - (1 << precision)
    alone = excess > _QUICK_EXCESS and np.count_nonzero(counts >= 1.5) == 1
    return bool((alone or len(pmf) > most_intervals) and excess < _MAX_SUM - 2**17)
