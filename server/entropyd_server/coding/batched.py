"""Codecs of models whose rows follow from a symbol's position in its coding unit."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from entropyd.contract.errors import InvalidTensorError, Violation
from entropyd_server.coding.codec import Codec
from entropyd_server.coding.rows import Rows, RowsCache, Shape
from entropyd_server.kernels.jit import kernel_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd_server.coding.tables import CodingTables

_MAX_SHAPES = 16
_MAX_ROWS_BYTES = 64 * 2**20


class BatchedCodec(Codec):
    """Codec of a model with a batch of priors, whose units have all the same rows.

    Attributes:
      prior_shape: Batch shape of the prior.
      coding_rank: Number of innermost dimensions that make one coding unit.
    """

    def __init__(self, *, prior_shape: Sequence[int], coding_rank: int, **common: Any) -> None:
        """See base class."""
        self.prior_shape: Shape = tuple(prior_shape)
        self.coding_rank = coding_rank
        self._rows = RowsCache(max_shapes=_MAX_SHAPES, max_bytes=_MAX_ROWS_BYTES)
        super().__init__(**common)

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        """Makes the codec of a config; `own` are arguments of a subclass."""
        return cls(
            model_id=config.model_id,
            tables=tables,
            prior_shape=config.prior_shape,
            coding_rank=config.coding_rank,
            bottleneck_dtype=config.bottleneck_dtype,
            decode_sanity_check=config.decode_sanity_check,
            **own,
        )

    @property
    def row_sets(self) -> int:
        """How many times prod(prior_shape) rows the tables have."""
        return 1

    @abstractmethod
    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """Picks row and quantization offset of each symbol of a coding unit.

        Returns:
          (row_index, offsets): int32 and `compute_dtype` [symbols].
        """

    def rows(self, broadcast_shape: Sequence[int]) -> Rows:
        """Returns the rows of units of a shape; computed once while they stay in use.

        Raises:
          InvalidTensorError: The rank is not coding_rank - rank of prior_shape, or a dimension is negative.
        """
        return self._rows.get(tuple(broadcast_shape), self._build_rows)

    def cached_rows(self, broadcast_shape: Shape) -> Rows | None:
        """Returns what `rows` would; None if it would have to compute them."""
        return self._rows.cached(broadcast_shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory: grows with the shapes for which `rows` was called."""
        return super().nbytes + self._rows.nbytes

    def _build_rows(self, broadcast_shape: Shape) -> Rows:
        rank = self.coding_rank - len(self.prior_shape)
        if len(broadcast_shape) != rank or min(broadcast_shape, default=0) < 0:
            found = f"is {broadcast_shape}; expected {rank} dimensions, none negative"
            raise InvalidTensorError.of([Violation("broadcast_shape", found)])
        unit_shape = broadcast_shape + self.prior_shape
        row_index, offsets = (kernel_input(array) for array in self.place(unit_shape))
        modelled_bits = float(self.row_bits[row_index].mean()) if len(row_index) else 0.0
        return Rows(unit_shape, row_index, offsets, modelled_bits=modelled_bits)

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        if self.coding_rank < len(self.prior_shape):
            found = f"is {self.coding_rank}; expected at least the rank of prior_shape {self.prior_shape}"
            yield Violation("coding_rank", found)
        rows, expected = len(self.tables.cdf_offset), self.row_sets * math.prod(self.prior_shape)
        if rows != expected:
            found = (
                f"has {rows} rows; expected {expected}, {self.row_sets} times prior_shape {self.prior_shape}"
            )
            yield Violation("cdf", found)
