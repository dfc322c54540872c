"""Coding with a model's integer tables, by one of the coders that take such tables.

Source: `compress` and `decompress` of TensorFlow Compression's entropy models
(python/entropy_models/*.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import Violation
from entropyd_server.coding.codec import Codec, EncodedUnits
from entropyd_server.coding.coders import Coder, RangeCoder
from entropyd_server.coding.rows import Rows
from entropyd_server.coding.tables import CodingTables, row_bits
from entropyd_server.kernels.jit import kernel_input

if TYPE_CHECKING:
    from typing_extensions import Self

_RANGE = RangeCoder()


class TableCodec(Codec):
    """Codec of a model with tables.

    Kernels encode rint(value - offset), and decode to symbol + offset, in `compute_dtype`.

    Attributes:
      tables: The model's coding tables.
      coder: What turns its integers into bit strings; the range coder unless told otherwise.
    """

    out_of_range: ClassVar[str] = "is 2^30 or more away from the integers that the model's tables cover"

    def __init__(self, *, tables: CodingTables, coder: Coder = _RANGE, **common: Any) -> None:
        self.tables = tables
        self.tables_digest = tables.digest
        self.coder = coder
        self.symbol_dtype = tables.symbol_dtype
        super().__init__(**common)
        coder.prepare(tables)

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        """Makes the codec of a configuration; `own` are arguments that the class adds, or another coder."""
        own.setdefault("coder", RangeCoder(decode_sanity_check=config.decode_sanity_check))
        return cls(
            model_id=config.model_id,
            kind=config.kind,
            tables=tables,
            coding_rank=config.coding_rank,
            bottleneck_dtype=config.bottleneck_dtype,
            **own,
        )

    def _problems(self) -> Iterator[Violation]:
        yield from super()._problems()
        found, expected = self.tables.precision, self.coder.precision
        if expected not in {0, found}:
            yield Violation("cdf", f"has precision {found}; the coder needs {expected}")

    @cached_property
    def row_bits(self) -> npt.NDArray[np.float64]:
        """float64 [rows]: what the tables expect a symbol of each row to cost, in bits."""
        return row_bits(self.tables)

    @property
    def nbytes(self) -> int:
        own_row_bits = self.row_bits.nbytes if "row_bits" in vars(self) else 0
        return self.tables.nbytes + own_row_bits

    def encode(self, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        rows.check_values(values)
        if values.dtype == self.wire_dtype:
            values = self.to_compute(values, rows)
        return self.coder.encode(self.tables, kernel_input(values), rows)

    def _decode(
        self,
        content: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return self.coder.decode(self.tables, content, lengths, rows, values)
