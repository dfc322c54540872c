"""A model's integer tables, ready to code symbols; what kinds of models have in common.

Source: `compress` and `decompress` of TensorFlow Compression's entropy models
(python/entropy_models/*.py).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from entropyd.contract.dtypes import BOTTLENECK_DTYPES, element_dtype, widened
from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd_server.coding.cost import row_bits
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.kernels.range_encoder import (
    PAYLOAD_GUARD_BYTES,
    PAYLOAD_SLACK_BYTES,
    encode_units,
    encoded_capacity,
)
from entropyd_server.kernels.single_decoder import decode_single

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from entropyd_server.coding.rows import Rows
    from entropyd_server.coding.tables import CodingTables

# Statuses and positions of one unit that did not fail.
_ONE_OK = kernel_input(np.array([Status.OK], np.uint8)), kernel_input(np.array([-1], np.int64))


def none_set(flags: npt.NDArray[Any]) -> bool:
    """Whether all of a vector of single bytes are zero; for small vectors faster than NumPy's reductions."""
    return not flags.tobytes().strip(b"\0")


# Named tuples, because every call makes one: a frozen dataclass takes three times as long to fill.
class EncodedUnits(NamedTuple):
    """Bit strings of coding units, in order.

    Attributes:
      payload: All strings, one directly after the other.
      lengths: uint32 [units], bytes of each string; 0 for a unit that failed.
      statuses: uint8 [units], a `kernels.range_coder.Status`; 0 is OK.
      positions: int64 [units], element of the unit that failed first; -1 if none did.
      escapes: Symbols that were coded as escapes, in units that did not fail.
    """

    payload: bytes
    lengths: npt.NDArray[np.uint32]
    statuses: npt.NDArray[np.uint8]
    positions: npt.NDArray[np.int64]
    escapes: int

    @property
    def all_ok(self) -> bool:
        """Whether no unit failed."""
        return none_set(self.statuses)

    @staticmethod
    def join(parts: Sequence[EncodedUnits]) -> EncodedUnits:
        """Joins the results of a call's units that were encoded in several parts."""
        if len(parts) == 1:
            return parts[0]
        return EncodedUnits(
            b"".join([part.payload for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.statuses for part in parts]),
            np.concatenate([part.positions for part in parts]),
            sum(part.escapes for part in parts),
        )


class DecodedUnits(NamedTuple):
    """Values of coding units, in order.

    Attributes:
      values: [units, symbols] in the codec's `wire_dtype`; NaN throughout a unit that failed.
      statuses: uint8 [units], a `kernels.range_coder.Status`; 0 is OK.
      positions: int64 [units], element at which decoding failed; -1 if none did or only the end is wrong.
    """

    values: npt.NDArray[Any]
    statuses: npt.NDArray[np.uint8]
    positions: npt.NDArray[np.int64]

    @property
    def all_ok(self) -> bool:
        """Whether no unit failed."""
        return none_set(self.statuses)

    @staticmethod
    def join(parts: Sequence[DecodedUnits]) -> DecodedUnits:
        """Joins the results of a call's units that were decoded in several parts."""
        if len(parts) == 1:
            return parts[0]
        return DecodedUnits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


class Codec(ABC):
    """A model's tables, and the arithmetic between its arrays and their symbols.

    Immutable: threads share it, and what a unit codes to depends on the unit and its rows alone. Each kind
    of model has a subclass in `coding.kinds`, which makes `Rows` and says how values become what kernels
    take: they encode rint(value - offset), and decode to symbol + offset, in float32 or float64.

    Attributes:
      model_id: Config hash of the model.
      tables: Its coding tables.
      bottleneck_dtype: "float16", "bfloat16", "float32" or "float64".
      wire_dtype: NumPy's dtype of values; uint16 bit patterns stand for bfloat16.
      compute_dtype: float32 or float64, which `to_compute` returns and the offsets of rows have.
      decode_sanity_check: Whether decoding refuses strings that no encoder could have ended that way.
    """

    compute_dtype: np.dtype[Any]

    def __init__(
        self, *, model_id: str, tables: CodingTables, bottleneck_dtype: str, decode_sanity_check: bool
    ) -> None:
        """Checks that tables and config fit each other; a subclass sets its own attributes first.

        Raises:
          InvalidConfigError: Names every field that is wrong.
        """
        self.model_id = model_id
        self.tables = tables
        self.bottleneck_dtype = bottleneck_dtype
        self.decode_sanity_check = decode_sanity_check
        problems = list(self._problems())
        if problems:
            raise InvalidConfigError.of(problems)
        self.wire_dtype = element_dtype(bottleneck_dtype)

    def _problems(self) -> Iterator[Violation]:
        """Yields what is wrong with the config."""
        if self.bottleneck_dtype not in BOTTLENECK_DTYPES:
            found = f"is {self.bottleneck_dtype!r}; expected one of {', '.join(BOTTLENECK_DTYPES)}"
            yield Violation("bottleneck_dtype", found)

    @abstractmethod
    def to_compute(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        """Converts values to `compute_dtype`.

        Args:
          values: `wire_dtype` [units, symbols].
          rows: Their rows.
        """

    @abstractmethod
    def to_wire(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        """Converts what kernels decoded to `wire_dtype`.

        Args:
          values: `compute_dtype` [units, symbols]; NaN throughout a unit that failed.
          rows: Their rows.
        """

    @cached_property
    def row_bits(self) -> npt.NDArray[np.float64]:
        """float64 [rows]: what the tables expect a symbol of each row to cost, in bits."""
        return row_bits(self.tables)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.tables.nbytes + (self.row_bits.nbytes if "row_bits" in vars(self) else 0)

    def encode(self, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        """Quantizes and encodes coding units.

        Args:
          values: `wire_dtype` [units, rows.symbols], C-contiguous.
          rows: What `rows` of this codec's kind returned for these units.

        Returns:
          A string per unit. A unit that holds NaN, an infinity, or a value out of reach of its row has a
          status and an empty string; the others are what they would be without it.

        Raises:
          ValueError: The units of `values` do not have the number of symbols of `rows`, or `rows` are those
            of another number of units.
        """
        if values.shape[1] != rows.symbols:
            raise ValueError(f"units have {values.shape[1]} symbols, the rows have {rows.symbols}")
        rows.check_units(len(values))
        values = kernel_input(self.to_compute(values, rows))
        units = len(values)
        lengths, statuses = np.empty(units, np.uint32), np.empty(units, np.uint8)
        positions = np.empty(units, np.int64)
        # Two bytes hold any symbol but an escape. Where there are many escapes, the kernel stops before the
        # payload is full, and the remaining units get one that holds whatever they are.
        capacity = encoded_capacity(0) + (2 * rows.symbols + PAYLOAD_SLACK_BYTES) * units
        pieces: list[bytes] = []
        unit = escapes = 0
        while unit < units:
            payload = np.empty(capacity, np.uint8)
            unit, end, escaped = encode_units(
                values,
                rows.offsets,
                rows.row_index,
                rows.unit_stride,
                self.tables.rows,
                self.tables.bounds,
                self.tables.precision,
                unit,
                payload,
                lengths,
                statuses,
                positions,
            )
            escapes += escaped
            pieces.append(payload[PAYLOAD_GUARD_BYTES:end].tobytes())
            capacity = encoded_capacity((units - unit) * rows.symbols)
        return EncodedUnits(b"".join(pieces), lengths, statuses, positions, escapes)

    def decode(
        self, payload: bytes | bytearray | memoryview, lengths: npt.NDArray[np.uint32], rows: Rows
    ) -> DecodedUnits:
        """Decodes coding units.

        Args:
          payload: All strings, one directly after the other.
          lengths: uint32 [units], bytes of each string.
          rows: What `rows` of this codec's kind returned for these units.

        Returns:
          Values per unit. A string that cannot be decoded gives its unit a status; the others are what they
          would be without it.

        Raises:
          ValueError: `lengths` do not add up to the payload's length, or `rows` are those of another number
            of units.
        """
        content = kernel_input(np.frombuffer(payload, np.uint8))
        # Most requests have few units, and numpy takes longer to begin than Python to add them up.
        units, payload_bytes = len(lengths), sum(lengths.tolist())
        if payload_bytes != len(content):
            raise ValueError(f"lengths add up to {payload_bytes} bytes, payload has {len(content)}")
        rows.check_units(units)
        values = np.empty((units, rows.symbols), self.compute_dtype)
        if units == 1:
            statuses, positions = self._decode_single(content, rows, values[0])
            return DecodedUnits(self.to_wire(values, rows), statuses, positions)
        statuses, positions = np.empty(units, np.uint8), np.empty(units, np.int64)
        decode_units(
            content,
            kernel_input(lengths),
            rows.offsets,
            rows.row_index,
            rows.unit_stride,
            self.tables.rows,
            self.tables.bounds,
            self.tables.hints,
            self.tables.intervals,
            self.tables.precision,
            self.decode_sanity_check,
            values,
            statuses,
            positions,
        )
        return DecodedUnits(self.to_wire(values, rows), statuses, positions)

    def _decode_single(
        self, content: npt.NDArray[np.uint8], rows: Rows, values: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Decodes the one unit of `content`; returns statuses and positions.

        Handing `decode_units` its arrays takes longer by as much as decoding 200 symbols.
        """
        status, position = decode_single(
            content,
            0,
            len(content),
            rows.offsets,
            rows.row_index,
            self.tables.rows,
            self.tables.hints,
            self.tables.intervals,
            self.decode_sanity_check,
            values,
        )
        if status == Status.OK:
            return _ONE_OK
        values.fill(np.nan)
        return np.array([status], np.uint8), np.array([position], np.int64)

    def error_at(
        self, rows: Rows, *, unit: int, status: int, position: int, value: float | None = None
    ) -> str:
        """Says what is wrong with a coding unit.

        Args:
          rows: Its rows.
          unit: The number by which the caller knows the unit.
          status: Its status, not OK.
          position: Its position, from the same result.
          value: The element at the position, when encoding failed.
        """
        where = f"coding unit {unit}"
        if position >= 0:
            where += f", element {rows.element(position)}"
        match Status(status):
            case Status.NOT_FINITE:
                what = f"{'NaN' if value is None or math.isnan(value) else value} cannot be coded"
            case Status.OUT_OF_RANGE:
                what = f"{value} is 2^30 or more away from the integers that the model's tables cover"
            case Status.ZERO_PROBABILITY:
                what = f"{value} has probability 0 in the model's tables"
            case Status.ESCAPE_TOO_LONG:
                what = "the bit string has an escape of more than 30 bits, which no encoder writes"
            case Status.NOT_AT_END:
                what = "the bit string does not end where the coding unit does (decode sanity check)"
            case Status.OK:
                raise ValueError("the unit did not fail")
        return f"{where}: {what}"

    def value_at(self, values: npt.NDArray[Any], unit: int, position: int) -> float:
        """Returns one element of `wire_dtype` values as a Python float."""
        return float(widened(values[unit, position : position + 1], self.bottleneck_dtype)[0])
