"""Codecs of models whose rows follow from a symbol's position in its coding unit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import Violation
from entropyd_server.coding.range_codec import RangeCodec
from entropyd_server.coding.rows import Rows, RowsCache, Shape
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.jit import kernel_input

if TYPE_CHECKING:
    from typing_extensions import Self

_MAX_SHAPES = 16
_MAX_ROWS_BYTES = 64 * 2**20


class BatchedCodec(RangeCodec, ABC):
    """Codec of a model with a batch of priors, whose units have all the same rows.

    Attributes:
      prior_shape: Batch shape of the prior.
    """

    def __init__(self, *, prior_shape: Sequence[int], **common: Any) -> None:
        self.prior_shape = self.unit_axes = tuple(prior_shape)
        self._rows = RowsCache(max_shapes=_MAX_SHAPES, max_bytes=_MAX_ROWS_BYTES)
        super().__init__(**common)

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        return cls(
            model_id=config.model_id,
            kind=config.kind,
            tables=tables,
            prior_shape=config.prior_shape,
            coding_rank=config.coding_rank,
            bottleneck_dtype=config.bottleneck_dtype,
            decode_sanity_check=config.decode_sanity_check,
            **own,
        )

    @property
    def row_sets(self) -> int:
        """How often the tables have prod(prior_shape) rows."""
        return 1

    @abstractmethod
    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """The row and the offset of each symbol of a coding unit: int32 and `compute_dtype` [symbols]."""

    def rows(self, broadcast_shape: Sequence[int]) -> Rows:
        """The rows of units of a shape, which are cached.

        Raises:
          InvalidTensorError: The rank is not coding_rank - rank of prior_shape, or a dimension is negative.
        """
        return self._rows.get(tuple(broadcast_shape), self._build_rows)

    def cached_rows(self, broadcast_shape: Shape) -> Rows | None:
        """What `rows` returns; None if it would have to compute them."""
        return self._rows.cached(broadcast_shape)

    @property
    def nbytes(self) -> int:
        """Grows with the shapes for which `rows` was called."""
        return super().nbytes + self._rows.nbytes

    def _build_rows(self, broadcast_shape: Shape) -> Rows:
        unit_shape = self.unit_shape(broadcast_shape)
        row_index, offsets = (kernel_input(array) for array in self.place(unit_shape))
        return Rows(unit_shape, row_index, offsets, row_bits=self.row_bits)

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        rows, expected = len(self.tables.cdf_offset), self.row_sets * math.prod(self.prior_shape)
        if rows != expected:
            times = f"{self.row_sets} times prior_shape {self.prior_shape}"
            yield Violation("cdf", f"has {rows} rows; expected {expected}, {times}")
