"""Codecs of models whose rows follow from a symbol's position in its coding unit."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import Violation
from entropyd_server.coding.rows import Rows, RowsByShape, Shape
from entropyd_server.coding.table_codec import TableCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.jit import kernel_input

if TYPE_CHECKING:
    from typing_extensions import Self


class BatchedCodec(RowsByShape, TableCodec):
    """Codec of a model with a batch of priors, whose units have all the same rows.

    Attributes:
      prior_shape: Batch shape of the prior.
    """

    def __init__(self, *, prior_shape: Sequence[int], **common: Any) -> None:
        self.prior_shape = self.unit_axes = tuple(prior_shape)
        super().__init__(**common)

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        return super().of(config, tables, prior_shape=config.prior_shape, **own)

    @property
    def row_sets(self) -> int:
        """How often the tables have prod(prior_shape) rows."""
        return 1

    @abstractmethod
    def place(self, unit_shape: Shape) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """The row and the offset of each symbol of a coding unit: int32 and `compute_dtype` [symbols]."""

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
