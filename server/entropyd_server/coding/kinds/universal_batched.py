"""Coding with the shared dither of UniversalBatchedEntropyModel.

Source: `UniversalBatchedEntropyModel` of TensorFlow Compression (python/entropy_models/universal.py).
float16 and bfloat16, which TFC cannot code, are widened to float32 and rounded once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.dither import offset_of_level
from entropyd.contract.errors import Violation
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd_server.coding.batched import BatchedCodec
from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.rows import Shape
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from typing_extensions import Self


def dithered_rows(
    unit_shape: Shape, prior_size: int, num_noise_levels: int, dtype: npt.DTypeLike
) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Picks rows, noise level major, and quantization offsets.

    Returns:
      (row_index, offsets): int32 and `dtype` [symbols].
    """
    levels = noise_levels(math.prod(unit_shape), num_noise_levels)
    position = np.arange(prior_size, dtype=np.int32)
    row_index = (levels.reshape(-1, prior_size) * np.int32(prior_size) + position).reshape(-1)
    return row_index, offset_of_level(num_noise_levels, dtype)[levels]


class UniversalBatchedCodec(BatchedCodec):
    """Codec with num_noise_levels * prod(prior_shape) rows."""

    def __init__(self, *, num_noise_levels: int, **config: Any) -> None:
        self.num_noise_levels = num_noise_levels
        super().__init__(**config)

    @classmethod
    def of(cls, config: UniversalBatchedConfig, tables: CodingTables, **own: Any) -> Self:
        return super().of(config, tables, num_noise_levels=config.num_noise_levels, **own)

    @property
    def row_sets(self) -> int:
        return self.num_noise_levels

    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        return dithered_rows(
            unit_shape, math.prod(self.prior_shape), self.num_noise_levels, self.compute_dtype
        )

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        if self.num_noise_levels < 1:
            yield Violation("num_noise_levels", f"is {self.num_noise_levels}; expected at least 1")
