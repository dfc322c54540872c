"""Coding with the shared dither of UniversalBatchedEntropyModel.

Source: `UniversalBatchedEntropyModel` of TensorFlow Compression (python/entropy_models/universal.py).
float16 and bfloat16, which TFC cannot code, are widened to float32 and rounded once at the end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.dtypes import narrowed, widened
from entropyd.contract.errors import Violation
from entropyd_server.coding.batched import BatchedCodec
from entropyd_server.kernels.philox import stateless_uniform_int32

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
    from entropyd_server.coding.rows import Rows, Shape
    from entropyd_server.coding.tables import CodingTables

_DITHER_SEED = (1234, 1234)


def noise_levels(count: int, num_noise_levels: int) -> npt.NDArray[np.int32]:
    """Draws the dither: the noise level of each of the first `count` symbols of any coding unit.

    Returns:
      int32 [count], each in [0, num_noise_levels).
    """
    return stateless_uniform_int32(count, _DITHER_SEED, num_noise_levels)


def dithered_rows(
    unit_shape: Shape, prior_size: int, num_noise_levels: int, dtype: npt.DTypeLike
) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Picks rows, noise level major, and quantization offsets; costs some 50 ns per symbol.

    Returns:
      (row_index, offsets): int32 and `dtype` [symbols].
    """
    levels = noise_levels(math.prod(unit_shape), num_noise_levels)
    position = np.arange(prior_size, dtype=np.int32)
    row_index = (levels.reshape(-1, prior_size) * np.int32(prior_size) + position).reshape(-1)
    # In float64 whatever the dtype, because TFC divides as Python does and casts afterwards.
    offset_of_level = (np.arange(num_noise_levels) + 1) / (num_noise_levels + 1) - 0.5
    return row_index, offset_of_level.astype(dtype)[levels]


class UniversalBatchedCodec(BatchedCodec):
    """Codec with num_noise_levels * prod(prior_shape) rows."""

    def __init__(self, *, num_noise_levels: int, **config: Any) -> None:
        self.num_noise_levels = num_noise_levels
        super().__init__(**config)
        self.compute_dtype = np.dtype(np.float64 if self.bottleneck_dtype == "float64" else np.float32)

    @classmethod
    def of(cls, config: UniversalBatchedConfig, tables: CodingTables, **own: Any) -> Self:
        """See base class."""
        return super().of(config, tables, num_noise_levels=config.num_noise_levels, **own)

    @property
    def row_sets(self) -> int:
        """One set of rows per noise level."""
        return self.num_noise_levels

    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """See base class."""
        return dithered_rows(
            unit_shape, math.prod(self.prior_shape), self.num_noise_levels, self.compute_dtype
        )

    def to_compute(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:  # noqa: ARG002
        """See base class."""
        return widened(values, self.bottleneck_dtype)

    def to_wire(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:  # noqa: ARG002
        """See base class."""
        return narrowed(values, self.bottleneck_dtype)

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        if self.num_noise_levels < 1:
            yield Violation("num_noise_levels", f"is {self.num_noise_levels}; expected at least 1")
