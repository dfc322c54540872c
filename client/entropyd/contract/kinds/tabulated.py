"""Tables of any origin, whose rows are picked by position or by index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from google.protobuf.message import Message

from entropyd.contract import quantization_offset as offset_of
from entropyd.contract.config import MAX_CODING_RANK, ModelConfig
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd.contract.fields import BOTTLENECK_DTYPE, SHAPE, TABLES, Field, choice, integer, optional
from entropyd.contract.integer_rows import flat_tables
from entropyd.contract.parameters import Array
from entropyd.contract.quantization_offset import QUANTIZATION_OFFSET
from entropyd.contract.table_checks import offset_problems, row_problems
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    from typing_extensions import Self

_RANS64_PRECISION = 16
_ROW_BY = choice({"position": types_pb2.ROW_BY_POSITION, "index": types_pb2.ROW_BY_INDEX})
_CODER = choice({"range": types_pb2.CODER_RANGE, "rans64": types_pb2.CODER_RANS64})


@dataclass(frozen=True, eq=False, init=False)
class TabulatedConfig(ModelConfig):
    """A model that is its integer tables: those of another framework, or of a histogram.

    It has no prior, so it estimates no bit costs. Values are rounded to integers, and bit strings are those
    of TFC's entropy models, or of CompressAI's, with the same tables.

    Attributes:
      tables: `(cdf, cdf_offset)` in TFC's layout, read-only int32 vectors. They are part of the identity.
      coding_rank: Number of innermost dimensions that make one coding unit.
      row_by: What picks the row of an element: its `position` in the coding unit, or an `index` that is given
        with it.
      row_shape: By position, the innermost axes of every coding unit, with a row for each of their elements.
        By index, how many values each index of an element has; with several of them, they lie along the last
        axis of an array of indexes, and with one there is no such axis.
      coder: `range`, TFC's range coder, or `rans64`, CompressAI's.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`. Quantization is computed in it.
      quantization_offset: What is subtracted before rounding and added afterwards, broadcast to row_shape;
        rounded to bottleneck_dtype, and held as float64 for such a bottleneck, else float32. None without
        any.
      range_coder_precision: Base-2 logarithm of the total of every row.
    """

    kind: ClassVar[str] = "tabulated"
    message: ClassVar[type[Message]] = types_pb2.TabulatedConfig
    fields: ClassVar[Mapping[str, Field]] = {
        "tables": TABLES,
        "coding_rank": integer(0, MAX_CODING_RANK),
        "row_by": _ROW_BY,
        "row_shape": optional(SHAPE),
        "coder": _CODER,
        "bottleneck_dtype": BOTTLENECK_DTYPE,
        "quantization_offset": optional(QUANTIZATION_OFFSET),
    }
    required: ClassVar[tuple[str, ...]] = ("tables", "coding_rank")
    class_name: ClassVar[str] = "tabulated_entropy_model"

    tables: tuple[Array, Array]
    coding_rank: int
    row_by: str
    row_shape: tuple[int, ...]
    coder: str
    bottleneck_dtype: Any
    quantization_offset: Any

    # What the other kinds have as arguments.
    prior = None
    compression = True
    stateless = False
    decode_sanity_check = True

    def __init__(
        self,
        rows: Any,
        offsets: Any,
        coding_rank: int,
        *,
        lengths: Any = None,
        row_by: str = "position",
        row_shape: Any = None,
        precision: int = 16,
        coder: str = "range",
        bottleneck_dtype: Any = None,
        quantization_offset: Any = None,
    ) -> None:
        """Makes the configuration of a model from its rows.

        Args:
          rows: Cumulative probabilities, each row from 0 strictly rising to 2^precision: a list of rows, or
            one matrix [rows, widest] with their `lengths`. The last interval of a row is the escape, with
            which integers beyond its others are coded.
          offsets: [rows], the smallest integer of each row: that of its first interval.
          coding_rank: See the attributes of the class, also for the following.
          lengths: [rows], how many entries of each row count; None for all.
          row_by: `position` or `index`.
          row_shape: None for one axis, of as many elements as there are rows.
          precision: Base-2 logarithm of the total of every row, 1 to 16; 16 for `rans64`.
          coder: `range` or `rans64`.
          bottleneck_dtype: Anything with the name of one; None for float32.
          quantization_offset: Numbers, or None.

        Raises:
          InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
        """
        tables, problems = flat_tables(rows, offsets, lengths, precision)
        _fill(
            self,
            tables=tables,
            coding_rank=coding_rank,
            row_by=row_by,
            row_shape=row_shape,
            coder=coder,
            bottleneck_dtype=bottleneck_dtype,
            quantization_offset=quantization_offset,
        )
        if problems:
            others = (violation for violation in self._violations() if violation.field != "tables")
            raise InvalidConfigError.of([*problems, *others])
        self.__post_init__()

    @classmethod
    def of_tables(
        cls,
        tables: tuple[Any, Any],
        coding_rank: int,
        *,
        row_by: str = "position",
        row_shape: Any = None,
        coder: str = "range",
        bottleneck_dtype: Any = None,
        quantization_offset: Any = None,
    ) -> Self:
        """Makes the configuration of a model from its attributes, with tables in TFC's layout.

        Raises:
          InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
        """
        config = cls.__new__(cls)
        _fill(
            config,
            tables=tables,
            coding_rank=coding_rank,
            row_by=row_by,
            row_shape=row_shape,
            coder=coder,
            bottleneck_dtype=bottleneck_dtype,
            quantization_offset=quantization_offset,
        )
        config.__post_init__()
        return config

    @classmethod
    def _of_fields(cls, given: Mapping[str, Any]) -> Self:
        return cls.of_tables(**given)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.row_shape is None:
            object.__setattr__(self, "row_shape", (len(self.cdf_offset),))
        object.__setattr__(self, "range_coder_precision", -int(self.cdf[0]))
        if self.quantization_offset is not None:
            offset = offset_of.rounded(self.quantization_offset, self.bottleneck_dtype)
            object.__setattr__(self, "quantization_offset", offset)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._of_fields, (self._arguments,)

    @property
    def _arguments(self) -> dict[str, Any]:
        """What `of_tables` made this configuration of."""
        return {name: getattr(self, name) for name in self.fields}

    def _violations(self) -> Iterator[Violation]:
        found = list(super()._violations())
        if not any(violation.field.startswith("tables") for violation in found):
            found += self._table_violations()
        yield from found
        wrong = {violation.field.partition(".")[0] for violation in found}
        yield from self._contradictions(wrong)

    def _table_violations(self) -> Iterator[Violation]:
        cdf, cdf_offset = TABLES.normalised(self.tables)
        problems = row_problems(cdf, "tables.cdf", rising=True)
        yield from problems
        if not problems:
            rows = int(np.count_nonzero(cdf < 0))
            yield from offset_problems(rows, cdf_offset, "tables.cdf_offset")

    def _contradictions(self, wrong: set[str]) -> Iterator[Violation]:
        """Says which arguments contradict one another, leaving out those that are `wrong` by themselves."""
        shape = self._given_row_shape(wrong)
        if shape == () and self.row_by == "index":
            yield Violation("row_shape", "is (); expected one axis at least for rows by index")
        if wrong.isdisjoint({"tables", "row_shape"}):
            rows = len(self.tables[1])
            if shape is not None and prod(shape) != rows:
                yield Violation("row_shape", f"is {shape}, which is {prod(shape)} rows; there are {rows}")
            yield from SHAPE.problems("row_shape", (rows,) if shape is None else shape)
        if wrong.isdisjoint({"tables", "coder"}) and self.coder == "rans64":
            precision = -int(self.tables[0][0])
            if precision != _RANS64_PRECISION:
                found = f"is rans64, and the rows have precision {precision}"
                yield Violation("coder", f"{found}; expected precision {_RANS64_PRECISION}")
        given = self.quantization_offset
        names = {"tables", "row_shape", "bottleneck_dtype", "quantization_offset"}
        if given is not None and wrong.isdisjoint(names):
            shape = (len(self.tables[1]),) if shape is None else shape
            dtype = BOTTLENECK_DTYPE.normalised(self.bottleneck_dtype)
            yield from offset_of.contradictions(given, shape, "row_shape", dtype)

    def _given_row_shape(self, wrong: set[str]) -> tuple[int, ...] | None:
        given: Any = self.row_shape
        return None if given is None or "row_shape" in wrong else SHAPE.normalised(given)

    @property
    def _least_coding_rank(self) -> int:
        if self.row_by != "position":
            return 0
        given: Any = self.row_shape
        if given is None:
            return 1
        return 0 if any(SHAPE.problems("row_shape", given)) else len(SHAPE.normalised(given))

    @property
    def cdf(self) -> Array:
        """int32 [length], the rows in TFC's layout: each `-precision, 0, ..., 2^precision`."""
        return self.tables[0]

    @property
    def cdf_offset(self) -> Array:
        """int32 [rows], the smallest integer of each row."""
        return self.tables[1]

    @property
    def prior_shape(self) -> tuple[int, ...]:
        return self.row_shape

    @property
    def unit_axes(self) -> tuple[int, ...]:
        return self.row_shape if self.row_by == "position" else ()

    @property
    def index_ranges(self) -> tuple[int, ...] | None:
        return self.row_shape if self.row_by == "index" else None

    @property
    def channel_axis(self) -> int | None:
        """Axis of an array of indexes along which those of one element lie; None if there is no such axis."""
        return -1 if self.row_by == "index" and len(self.row_shape) > 1 else None

    @property
    def table_rows(self) -> int:
        return prod(self.row_shape)

    @property
    def rows_in_words(self) -> str:
        return f"row_shape {self.row_shape}, by {self.row_by}"

    @property
    def supplied_tables(self) -> RawTables:
        return RawTables(*self.tables, self._given_rows)

    @property
    def _given_rows(self) -> Array | None:
        return offset_of.of_rows(self.quantization_offset, self.row_shape)

    def with_tables(self, tables: RawTables) -> Self:
        offset = tables.quantization_offset
        changed = {
            "tables": (tables.cdf, tables.cdf_offset),
            "quantization_offset": None if offset is None else self.shaped_offset(offset),
        }
        return self._of_fields({**self._arguments, **changed})

    def allows_offset(self, offset: Array | None) -> bool:
        given = self._given_rows
        return given is None if offset is None else given is not None and np.array_equal(offset, given)

    def shaped_offset(self, offset: Array) -> Array:
        return offset_of.shaped_like(self.quantization_offset, offset, self.row_shape)


def _fill(config: TabulatedConfig, **given: Any) -> None:
    for name, value in given.items():
        object.__setattr__(config, name, value)
