"""What the codecs of all kinds of models have in common: what they take and give, and their errors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd.contract.dtypes import BOTTLENECK_DTYPES, coding_dtype, element_dtype, narrowed, widened
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.symbols import SYMBOL_DTYPES
from entropyd_server.coding.rows import Rows, Shape
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.range_coder import Status

_UINT8 = np.dtype(np.uint8)
_INTEGERS = tuple(np.dtype(name) for name in SYMBOL_DTYPES)


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
        return none_set(self.statuses)

    @staticmethod
    def join(parts: Sequence[EncodedUnits]) -> EncodedUnits:
        if len(parts) == 1:
            return parts[0]
        payloads, *arrays, escapes = zip(*parts, strict=True)
        return EncodedUnits._make((b"".join(payloads), *map(np.concatenate, arrays), sum(escapes)))


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
        return none_set(self.statuses)

    @staticmethod
    def join(parts: Sequence[DecodedUnits]) -> DecodedUnits:
        if len(parts) == 1:
            return parts[0]
        return DecodedUnits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def checked_payload(
    payload: bytes | bytearray | memoryview, lengths: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint8]:
    """A payload as kernels take it; raises ValueError if the lengths do not add up to it."""
    content: npt.NDArray[np.uint8] = kernel_input(np.frombuffer(payload, _UINT8))
    # Most requests have few units, which Python adds up before NumPy has begun.
    payload_bytes = sum(lengths.tolist())
    if payload_bytes != len(content):
        raise ValueError(f"lengths add up to {payload_bytes} bytes, payload has {len(content)}")
    return content


class Codec(ABC):
    """The arithmetic between a model's arrays, their symbols and bit strings.

    Immutable: threads share it, and what a unit codes to depends on the unit and its rows alone. Each kind
    of model has a subclass in `coding.kinds`, which makes `Rows` and may convert values in its own way.

    Attributes:
      model_id: Config hash of the model.
      kind: Name of its kind, for metrics and spans.
      coding_rank: Number of innermost dimensions that make one coding unit.
      unit_axes: Lengths of the innermost axes of every coding unit that the model fixes.
      bottleneck_dtype: "float16", "bfloat16", "float32" or "float64".
      wire_dtype: NumPy's dtype of values; uint16 bit patterns stand for bfloat16.
      compute_dtype: float32 or float64, also that of the offsets of rows.
      index_rows: Number of rows from which indexes choose; None for a model that takes no indexes.
      numbers_units: Whether what a unit codes to depends on its number, too.
      tables_digest: SHA-256 of the coding tables; empty for a model without any.
      symbol_dtype: The narrowest of int8, int16 and int32 that holds most symbols.
    """

    unit_axes: Shape = ()
    index_rows: int | None = None
    numbers_units: ClassVar[bool] = False
    tables_digest: bytes = b""
    symbol_dtype: np.dtype[Any] = np.dtype(np.int8)
    # What is wrong with a value of Status.OUT_OF_RANGE.
    out_of_range: ClassVar[str]

    def __init__(self, *, model_id: str, coding_rank: int, bottleneck_dtype: str, kind: str = "") -> None:
        """Checks that the arguments fit each other; a subclass sets its own attributes first."""
        self.model_id = model_id
        self.kind = kind
        self.coding_rank = coding_rank
        self.bottleneck_dtype = bottleneck_dtype
        problems = list(self._problems())
        if problems:
            raise InvalidConfigError.of(problems)
        self.wire_dtype = element_dtype(bottleneck_dtype)
        self.compute_dtype = np.dtype(coding_dtype(bottleneck_dtype))

    def _problems(self) -> Iterator[Violation]:
        if self.bottleneck_dtype not in BOTTLENECK_DTYPES:
            found = f"is {self.bottleneck_dtype!r}; expected one of {', '.join(BOTTLENECK_DTYPES)}"
            yield Violation("bottleneck_dtype", found)
        if self.coding_rank < len(self.unit_axes):
            found = f"is {self.coding_rank}; expected at least the rank of prior_shape {self.unit_axes}"
            yield Violation("coding_rank", found)

    @property
    def nbytes(self) -> int:
        """Bytes in memory of tables, and of what was derived from them so far."""
        return 0

    @abstractmethod
    def encode(self, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        """Quantizes and encodes coding units.

        Args:
          values: `wire_dtype` [units, rows.symbols], C-contiguous; or symbols as int8, int16 or int32.
          rows: Of these units, made by this codec.

        Returns:
          A string per unit. A unit that holds NaN, an infinity, or a value that cannot be coded has a status
          and an empty string; the others are what they would be without it.

        Raises:
          ValueError: `rows` are those of another number of symbols or units.
        """

    def decode(
        self,
        payload: bytes | bytearray | memoryview,
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        *,
        symbols: bool = False,
    ) -> DecodedUnits:
        """Decodes coding units.

        Args:
          payload: All strings, one directly after the other.
          lengths: uint32 [units], bytes of each string.
          rows: Of these units, made by this codec.
          symbols: Whether to decode to symbols.

        Returns:
          Values per unit, or symbols: int8, int16 or int32, a type that holds those of all units. A string
          that cannot be decoded gives its unit a status; the others are what they would be without it.

        Raises:
          ValueError: `lengths` do not add up to the payload, or `rows` are those of another number of units.
        """
        content, units = checked_payload(payload, lengths), len(lengths)
        rows.check_units(units)
        if not symbols:
            values = np.empty((units, rows.symbols), self.compute_dtype)
            statuses, positions = self._decode(content, lengths, rows, values)
            return DecodedUnits(self.to_wire(values, rows), statuses, positions)
        # The first type holds all symbols but some escapes.
        for dtype in _INTEGERS[_INTEGERS.index(self.symbol_dtype) :]:
            values = np.empty((units, rows.symbols), dtype)
            statuses, positions = self._decode(content, lengths, rows, values)
            if none_set(statuses) or not (statuses == Status.TOO_WIDE).any():
                break
        return DecodedUnits(values, statuses, positions)

    @abstractmethod
    def _decode(
        self,
        content: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Decodes to values or symbols, by the dtype of what is written; returns statuses and positions."""

    def unit_shape(self, broadcast_shape: Sequence[int]) -> Shape:
        """The dimensions of a coding unit, of which a caller gives those in front of `unit_axes`.

        Raises:
          InvalidTensorError: The rank is not coding_rank - rank of `unit_axes`, or a dimension is negative.
        """
        rank = self.coding_rank - len(self.unit_axes)
        if len(broadcast_shape) != rank or min(broadcast_shape, default=0) < 0:
            found = f"is {tuple(broadcast_shape)}; expected {rank} dimensions, none negative"
            raise InvalidTensorError.at("broadcast_shape", found)
        return (*broadcast_shape, *self.unit_axes)

    def to_compute(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:  # noqa: ARG002
        """Converts values [units, symbols] from `wire_dtype` to `compute_dtype`."""
        return widened(values, self.bottleneck_dtype)

    def to_wire(self, values: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:  # noqa: ARG002
        """Converts decoded values [units, symbols], NaN throughout a unit that failed, to `wire_dtype`."""
        return narrowed(values, self.bottleneck_dtype)

    def error_at(
        self, rows: Rows, *, unit: int, status: int, position: int, value: float | None = None
    ) -> str:
        """Says what is wrong with a coding unit.

        Args:
          rows: Its rows.
          unit: The caller's number of it.
          status: Its status, not OK.
          position: As in `EncodedUnits` or `DecodedUnits`.
          value: The element there, when encoding failed.
        """
        where = f"coding unit {unit}"
        if position >= 0:
            where += f", element {rows.element(position)}"
        match Status(status):
            case Status.NOT_FINITE:
                what = f"{'NaN' if value is None or math.isnan(value) else value} cannot be coded"
            case Status.OUT_OF_RANGE:
                what = f"{value} {self.out_of_range}"
            case Status.ZERO_PROBABILITY:
                what = f"{value} has probability 0 in the model's tables"
            case Status.ESCAPE_TOO_LONG:
                what = "the bit string has an escape that no encoder writes"
            case Status.NOT_AT_END:
                what = "the bit string does not end where the coding unit does (decode sanity check)"
            case Status.TRUNCATED:
                what = "the bit string ends before the coding unit does"
            case Status.RUN_TOO_LONG:
                what = "the bit string has more zeros than the coding unit has elements left"
            case Status.GAMMA_TOO_LONG:
                what = "the bit string has a number of more than 31 bits, which no encoder writes"
            case Status.STATE_OUT_OF_RANGE:
                what = "the bit string begins with a state in which no encoder ends"
            case Status.OK | Status.TOO_WIDE:
                raise ValueError("the unit did not fail")
        return f"{where}: {what}"

    def value_at(self, values: npt.NDArray[Any], unit: int, position: int) -> float:
        """One element of values or symbols [units, symbols]."""
        if values.dtype in _INTEGERS:
            return int(values[unit, position])
        return float(widened(values[unit, position : position + 1], self.bottleneck_dtype)[0])
