"""Planes of indexes: which row of the tables codes each symbol.

Invariant: the checksum of a unit depends on its rows alone, not on the array that it is a part of.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

import google_crc32c
import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import Array
from entropyd.contract.prior import Prior

_DTYPES = tuple(np.dtype(name) for name in ("uint8", "uint16"))


class RowsByIndex(Protocol):
    """The configuration of a model whose rows are picked by index.

    Attributes:
      index_ranges: Number of values of each index of an element.
      channel_axis: Axis of an array of indexes along which those of one element lie, one for each range; None
        if there is no such axis.
    """

    @property
    def kind(self) -> str: ...
    @property
    def coding_rank(self) -> int: ...
    @property
    def index_ranges(self) -> tuple[int, ...]: ...
    @property
    def channel_axis(self) -> int | None: ...
    @property
    def needed_prior(self) -> Prior: ...


def takes_indexes(config: ModelConfig) -> TypeGuard[RowsByIndex]:
    """Whether the rows of a model are picked by index."""
    return config.index_ranges is not None


def row_dtype(rows: int) -> np.dtype[Any]:
    """The narrowest dtype of planes that holds all of a model's `rows`: uint8, uint16 or int32.

    `rows` is the product of index_ranges; a noise level is no part of it.
    """
    return next((dtype for dtype in _DTYPES if rows - 1 <= np.iinfo(dtype).max), np.dtype(np.int32))


def indexes_crc32c(plane: Array) -> npt.NDArray[np.uint32]:
    """CRC32C of the rows of each coding unit, row-major and little-endian.

    Args:
      plane: [units, symbols], in the model's `row_dtype`.

    Returns:
      uint32 [units].
    """
    units, symbols = plane.shape
    content = plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes()
    step = symbols * plane.itemsize
    checksums = (google_crc32c.value(content[step * unit : step * (unit + 1)]) for unit in range(units))
    return np.fromiter(checksums, np.uint32, units)
