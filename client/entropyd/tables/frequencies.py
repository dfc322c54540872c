"""Frequencies of a row: positive integers for probabilities, with a given total.

Invariant: every frequency is at least 1, so that every symbol can be coded; they add up to 2^precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Frequencies = npt.NDArray[np.int64]

# So many find c to within 2^-16 of a total; the rest is added where it gains most.
_BISECTIONS = 16


def least_excess(probabilities: npt.NDArray[np.float64], precision: int) -> Frequencies:
    """The frequencies f with the least expected cost, the sum of -p log2(f / 2^precision).

    The cost is convex in each frequency, so it is least exactly when no step from one frequency to another
    lowers it: when the most that any increment gains is no more than the least that any decrement loses.

    Args:
      probabilities: float64 [symbols], finite, at least 0, one of them above; at most 2^precision of them.
      precision: Base-2 logarithm of the total.
    """
    share = probabilities / probabilities.max()
    share /= share.sum()
    frequencies = _rounded(share, 1 << precision)
    missing = (1 << precision) - int(frequencies.sum())
    while missing:
        count = min(missing, len(share))
        frequencies[np.argsort(-_gains(share, frequencies), kind="stable")[:count]] += 1
        missing -= count
    while True:
        gains, losses = _gains(share, frequencies), _losses(share, frequencies)
        up, down = np.argsort(-gains, kind="stable"), np.argsort(losses, kind="stable")
        # A symbol loses more by a decrement than it gains by an increment, so none is on both sides.
        steps = int(np.count_nonzero(gains[up] > losses[down]))
        if not steps:
            return frequencies
        frequencies[up[:steps]] += 1
        frequencies[down[:steps]] -= 1


def _rounded(share: npt.NDArray[np.float64], total: int) -> Frequencies:
    """The largest frequencies max(1, round(c * share)) that add up to `total` or less.

    An increment of f gains about share / (f + 1/2), so those of the least cost are about these for one c.
    """
    low, high = 0.0, float(total)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        fits = np.maximum(np.rint(middle * share), 1).sum() <= total
        low, high = (middle, high) if fits else (low, middle)
    frequencies: Frequencies = np.maximum(np.rint(low * share), 1).astype(np.int64)
    return frequencies


def _gains(share: npt.NDArray[np.float64], frequencies: Frequencies) -> npt.NDArray[np.float64]:
    """What one more of each frequency gains, in nats."""
    gains: npt.NDArray[np.float64] = share * np.log1p(1 / frequencies)
    return gains


def _losses(share: npt.NDArray[np.float64], frequencies: Frequencies) -> npt.NDArray[np.float64]:
    """What one less of each frequency loses, in nats; infinite for a frequency of 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(frequencies > 1, share * np.log1p(1 / (frequencies - 1)), np.inf)


def compressai(probabilities: npt.NDArray[Any], precision: int) -> Frequencies:
    """The frequencies of CompressAI's `pmf_to_quantized_cdf` (cpp_exts/ops/ops.cpp of version 1.2.8).

    Probabilities are rounded, in float32, scaled to the total and rounded down, and what is left over goes to
    the last one. Every frequency of 0 then takes 1 from the smallest that is above 1.

    Args:
      probabilities: [symbols], as `least_excess` takes them; their sum times 2^precision below 2^31 and, once
        rounded, above 0.
      precision: Base-2 logarithm of the total.
    """
    scaled = probabilities.astype(np.float32) * np.float32(1 << precision)
    whole = np.floor(scaled)
    counts = (whole + (scaled - whole >= np.float32(0.5))).astype(np.int64)  # halves away from zero
    frequencies: Frequencies = (counts << precision) // counts.sum()
    frequencies[-1] += (1 << precision) - frequencies.sum()
    empty = frequencies == 0
    # A frequency that has given 1 is the smallest still, until it is 1.
    givers = np.argsort(frequencies, kind="stable")
    spare = np.maximum(frequencies[givers] - 1, 0)
    before = np.cumsum(spare) - spare
    frequencies[givers] -= np.clip(np.count_nonzero(empty) - before, 0, spare)
    frequencies[empty] = 1
    return frequencies
