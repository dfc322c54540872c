"""Selects the coding units that a Decompress request names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidRequestError
from entropyd.v1 import coding_pb2
from entropyd_server.errors import limit_exceeded
from entropyd_server.limits import Limits


def selected_units(
    ranges: Sequence[coding_pb2.UnitRange], total: int, limits: Limits
) -> npt.NDArray[np.int64]:
    """Returns the indexes of the selected units of a batch of `total`, in the order of the request.

    Raises:
      InvalidRequestError: If a range reaches beyond the batch.
      LimitExceededError: Names max_units.
    """
    if len(ranges) > limits.max_units:
        found = f"{len(ranges)} ranges of coding units exceed"
        raise limit_exceeded(found, "max_units", limits.max_units)
    for number, run in enumerate(ranges):
        if run.start + run.count > total:
            found = f"is [{run.start}, {run.start + run.count}); the batch has {total} coding units"
            raise InvalidRequestError.at(f"units[{number}]", found)
    count = sum(run.count for run in ranges)
    if count > limits.max_units:
        raise limit_exceeded(f"{count} selected coding units exceed", "max_units", limits.max_units)
    return run_numbers([run.start for run in ranges], [run.count for run in ranges])


def run_numbers(firsts: Sequence[int], counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Joins runs of numbers, each from `first` on and `count` long; all numbers are below 2^63."""
    begins = np.cumsum([0, *counts])
    shifts: npt.NDArray[np.int64] = np.repeat(np.array(firsts, np.int64) - begins[:-1], counts)
    return shifts + np.arange(begins[-1])


def gather(
    payload: bytes, lengths: npt.NDArray[np.uint32], units: npt.NDArray[np.int64], limits: Limits
) -> bytes:
    """Joins the bit strings of the selected units, which may repeat.

    Raises:
      LimitExceededError: Names max_message_bytes.
    """
    gathered_bytes = int(lengths[units].sum(dtype=np.uint64))
    if gathered_bytes > limits.max_message_bytes:
        found = f"{gathered_bytes} bytes of selected bit strings exceed"
        raise limit_exceeded(found, "max_message_bytes", limits.max_message_bytes)
    ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    cuts = [0, *(np.flatnonzero(np.diff(units) != 1) + 1).tolist(), len(units)]
    runs = [(int(units[a]), int(units[b - 1]) + 1) for a, b in pairwise(cuts) if b > a]
    return b"".join(payload[int(ends[first]) : int(ends[last])] for first, last in runs)
