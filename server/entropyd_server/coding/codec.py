"""One model, ready to code: arrays of coding units to bit strings and back.

Owns the meaning of a model's tables: dtypes, shapes, dither, and what a unit's status says to a person. It
must not know requests, batches or who asked. Invariant: a Codec never changes, and any number of threads
may use one at the same time; what a unit codes to depends on that unit and the plan alone.

Source: `UniversalBatchedEntropyModel.compress` and `.decompress` in TensorFlow Compression
(python/entropy_models/universal.py). float16 and bfloat16, which TFC cannot code, are taken to float32
exactly, coded there, and rounded to the dtype once at the end.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd_server.coding.entropy import row_bits
from entropyd_server.coding.plan import CodingPlan, PlanCache, Shape
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.lone_decoder import decode_alone
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.kernels.range_encoder import (
    PAYLOAD_GUARD_BYTES,
    PAYLOAD_SLACK_BYTES,
    encode_units,
    encoded_capacity,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from entropyd_server.coding.tables import CodingTables


_MAX_PLANS = 16
_MAX_PLAN_BYTES = 64 * 2**20
# Bottleneck dtype -> (dtype of the arrays that callers hand in and get back, dtype of the arithmetic).
_DTYPES: dict[str, tuple[np.dtype[Any], np.dtype[Any]]] = {
    "float16": (np.dtype(np.float16), np.dtype(np.float32)),
    "bfloat16": (np.dtype(np.uint16), np.dtype(np.float32)),
    "float32": (np.dtype(np.float32), np.dtype(np.float32)),
    "float64": (np.dtype(np.float64), np.dtype(np.float64)),
}
# Statuses and positions of one unit that did not fail.
_ONE_OK = kernel_input(np.array([Status.OK], np.uint8)), kernel_input(np.array([-1], np.int64))


def none_set(flags: npt.NDArray[Any]) -> bool:
    """Whether all of a vector of single bytes are zero.

    NumPy's own reductions pass through code that a small call uses for nothing else, which costs it more
    than to parse its array.
    """
    return not flags.tobytes().strip(b"\0")


# Tuples, because one is made for each call: a frozen dataclass takes three times as long to fill.
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


class Codec:
    """A model's config and coding tables; immutable.

    Attributes:
      model_id: Config hash of the model.
      tables: Its coding tables, num_noise_levels * prod(prior_shape) rows, noise level major.
      prior_shape: Batch shape of the prior.
      coding_rank: Number of innermost dimensions that make one coding unit.
      bottleneck_dtype: "float16", "bfloat16", "float32" or "float64".
      wire_dtype: numpy's dtype of values; uint16 bit patterns stand for bfloat16.
      num_noise_levels: Levels of the dither.
      decode_sanity_check: Whether decoding refuses strings that no encoder could have ended that way.
    """

    def __init__(
        self,
        *,
        model_id: str,
        tables: CodingTables,
        prior_shape: Sequence[int],
        coding_rank: int,
        bottleneck_dtype: str,
        num_noise_levels: int,
        decode_sanity_check: bool,
    ) -> None:
        """Checks that tables and config belong together.

        Raises:
          InvalidConfigError: Names every field that is wrong.
        """
        self.model_id = model_id
        self.tables = tables
        self.prior_shape: Shape = tuple(prior_shape)
        self.coding_rank = coding_rank
        self.bottleneck_dtype = bottleneck_dtype
        self.num_noise_levels = num_noise_levels
        self.decode_sanity_check = decode_sanity_check
        problems = self._problems()
        if problems:
            raise InvalidConfigError.of(problems)
        self.wire_dtype, self._compute_dtype = _DTYPES[bottleneck_dtype]
        self._plans = PlanCache(max_plans=_MAX_PLANS, max_bytes=_MAX_PLAN_BYTES)

    def _problems(self) -> list[Violation]:
        problems = []
        if self.bottleneck_dtype not in _DTYPES:
            found = f"is {self.bottleneck_dtype!r}; expected one of {', '.join(_DTYPES)}"
            problems.append(Violation("bottleneck_dtype", found))
        if self.num_noise_levels < 1:
            problems.append(Violation("num_noise_levels", f"is {self.num_noise_levels}; expected at least 1"))
        if self.coding_rank < len(self.prior_shape):
            found = f"is {self.coding_rank}; expected at least the rank of prior_shape {self.prior_shape}"
            problems.append(Violation("coding_rank", found))
        rows = len(self.tables.cdf_offset)
        rows_of_config = self.num_noise_levels * math.prod(self.prior_shape)
        if rows != rows_of_config:
            found = (
                f"has {rows} rows; expected {rows_of_config}: {self.num_noise_levels} noise levels "
                f"times prior_shape {self.prior_shape}"
            )
            problems.append(Violation("cdf", found))
        return problems

    def _compile_plan(self, broadcast_shape: Shape) -> CodingPlan:
        rank = self.coding_rank - len(self.prior_shape)
        if len(broadcast_shape) != rank or min(broadcast_shape, default=0) < 0:
            found = f"is {broadcast_shape}; expected {rank} dimensions, none negative"
            raise InvalidTensorError.of([Violation("broadcast_shape", found)])
        plan = CodingPlan.compile(
            broadcast_shape, self.prior_shape, self.num_noise_levels, self._compute_dtype
        )
        bits = float(self._row_bits[plan.row_index].mean()) if plan.symbols else 0.0
        return replace(plan, modelled_bits=bits)

    @cached_property
    def _row_bits(self) -> npt.NDArray[np.float64]:
        return row_bits(self.tables)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: grows with each plan that `has_plan` denied."""
        held = self.tables.nbytes + self._plans.nbytes
        return held + self._row_bits.nbytes if "_row_bits" in vars(self) else held

    def plan(self, broadcast_shape: Sequence[int]) -> CodingPlan:
        """Gives the coding plan for a shape; compiled once while it stays in use.

        Raises:
          InvalidTensorError: The rank is not coding_rank - rank of prior_shape, or a dimension is negative.
        """
        return self._plans.get(tuple(broadcast_shape), self._compile_plan)

    def has_plan(self, broadcast_shape: Shape) -> bool:
        """Says whether `plan` has nothing to compile."""
        return self._plans.holds(broadcast_shape)

    def encode(self, values: npt.NDArray[Any], plan: CodingPlan) -> EncodedUnits:
        """Quantizes and encodes coding units.

        Args:
          values: `wire_dtype` [units, plan.symbols], C-contiguous.
          plan: A plan of this codec.

        Returns:
          A string per unit. A unit that holds NaN, an infinity, or a value out of reach of its row has a
          status and an empty string; the others are what they would be without it.

        Raises:
          ValueError: The units of `values` do not have the plan's number of symbols.
        """
        if values.shape[1] != plan.symbols:
            raise ValueError(f"units have {values.shape[1]} symbols, the plan has {plan.symbols}")
        values = kernel_input(self._to_compute_dtype(values))
        units = len(values)
        lengths, statuses = np.empty(units, np.uint32), np.empty(units, np.uint8)
        positions = np.empty(units, np.int64)
        # Two bytes hold any symbol but an escape. Where there are many escapes, the kernel stops before the
        # payload is full, and the remaining units get one that holds whatever they are.
        capacity = encoded_capacity(0) + (2 * plan.symbols + PAYLOAD_SLACK_BYTES) * units
        pieces: list[bytes] = []
        unit = escapes = 0
        while unit < units:
            payload = np.empty(capacity, np.uint8)
            unit, end, escaped = encode_units(
                values,
                plan.offsets,
                plan.row_index,
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
            capacity = encoded_capacity((units - unit) * plan.symbols)
        return EncodedUnits(b"".join(pieces), lengths, statuses, positions, escapes)

    def decode(
        self, payload: bytes | bytearray | memoryview, lengths: npt.NDArray[np.uint32], plan: CodingPlan
    ) -> DecodedUnits:
        """Decodes coding units.

        Args:
          payload: All strings, one directly after the other.
          lengths: uint32 [units], bytes of each string.
          plan: A plan of this codec.

        Returns:
          Values per unit. A string that cannot be decoded gives its unit a status; the others are what they
          would be without it.

        Raises:
          ValueError: `lengths` do not add up to the payload's length.
        """
        content = kernel_input(np.frombuffer(payload, np.uint8))
        # Most requests have few units, and numpy takes longer to begin than Python to add them up.
        units, payload_bytes = len(lengths), sum(lengths.tolist())
        if payload_bytes != len(content):
            raise ValueError(f"lengths add up to {payload_bytes} bytes, payload has {len(content)}")
        values = np.empty((units, plan.symbols), self._compute_dtype)
        if units == 1:
            statuses, positions = self._decode_alone(content, plan, values[0])
            return DecodedUnits(self._to_wire_dtype(values), statuses, positions)
        statuses, positions = np.empty(units, np.uint8), np.empty(units, np.int64)
        decode_units(
            content,
            kernel_input(lengths),
            plan.offsets,
            plan.row_index,
            self.tables.rows,
            self.tables.bounds,
            self.tables.buckets,
            self.tables.hints,
            self.tables.intervals,
            self.tables.precision,
            self.decode_sanity_check,
            values,
            statuses,
            positions,
        )
        return DecodedUnits(self._to_wire_dtype(values), statuses, positions)

    def _decode_alone(
        self, content: npt.NDArray[np.uint8], plan: CodingPlan, values: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Decodes the one unit of `content`; gives statuses and positions.

        Handing `decode_units` its arrays takes longer by as much as decoding 200 symbols.
        """
        status, position = decode_alone(
            content,
            0,
            len(content),
            plan.offsets,
            plan.row_index,
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
        self, plan: CodingPlan, *, unit: int, status: int, position: int, value: float | None = None
    ) -> str:
        """Says what is wrong with a coding unit.

        Args:
          plan: The plan that it was coded with.
          unit: The number by which the caller knows the unit.
          status: Its status, not OK.
          position: Its position, from the same result.
          value: The element at the position, when encoding failed.
        """
        where = f"coding unit {unit}"
        if position >= 0:
            where += f", element {plan.element(position)}"
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
        """Gives one element of `wire_dtype` values as a Python float."""
        return float(self._to_compute_dtype(values[unit : unit + 1, position : position + 1])[0, 0])

    def _to_compute_dtype(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.bottleneck_dtype == "bfloat16":
            # A bfloat16 is the upper half of a float32.
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values if values.dtype == self._compute_dtype else values.astype(self._compute_dtype)

    def _to_wire_dtype(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.bottleneck_dtype == "bfloat16":
            bits = values.view(np.uint32)
            # Half a unit of the last place that is kept, less one where that place is even: ties to even.
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
            return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)
        if self.bottleneck_dtype == "float16":
            # Escapes reach beyond float16's largest number; they round to an infinity, as in TensorFlow.
            with np.errstate(over="ignore"):
                return values.astype(np.float16)
        return values


def warm_up() -> None:
    """Compiles or loads every kernel, so that no request has to wait for it, and proves them on known units.

    Raises:
      RuntimeError: This machine codes differently; it must not serve.
    """
    # `golden` codes with a Codec, so it cannot be imported above.
    from entropyd_server.coding import golden  # noqa: PLC0415

    golden.check()
