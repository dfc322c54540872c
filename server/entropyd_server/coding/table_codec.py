"""Range coding with a model's integer tables.

Source: `compress` and `decompress` of TensorFlow Compression's entropy models
(python/entropy_models/*.py).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.codec import Codec, DecodedUnits, EncodedUnits, checked_payload
from entropyd_server.coding.rows import Rows
from entropyd_server.coding.tables import CodingTables, row_bits
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
    from typing_extensions import Self

# Statuses and positions of one unit that did not fail.
_ONE_OK = kernel_input(np.array([Status.OK], np.uint8)), kernel_input(np.array([-1], np.int64))


class RangeCodec(Codec):
    """Codec of a model with tables.

    Kernels encode rint(value - offset), and decode to symbol + offset, in `compute_dtype`.

    Attributes:
      tables: The model's coding tables.
      decode_sanity_check: Whether decoding refuses strings that no encoder could have ended that way.
    """

    out_of_range: ClassVar[str] = "is 2^30 or more away from the integers that the model's tables cover"

    def __init__(self, *, tables: CodingTables, decode_sanity_check: bool, **common: Any) -> None:
        self.tables = tables
        self.tables_digest = tables.digest
        self.decode_sanity_check = decode_sanity_check
        super().__init__(**common)
        self._zeros = kernel_input(np.zeros(0, self.compute_dtype))

    @classmethod
    def of(cls, config: Any, tables: CodingTables, **own: Any) -> Self:
        """Makes the codec of a configuration; `own` are arguments that the class adds."""
        return cls(
            model_id=config.model_id,
            kind=config.kind,
            tables=tables,
            coding_rank=config.coding_rank,
            bottleneck_dtype=config.bottleneck_dtype,
            decode_sanity_check=config.decode_sanity_check,
            **own,
        )

    @cached_property
    def row_bits(self) -> npt.NDArray[np.float64]:
        """float64 [rows]: what the tables expect a symbol of each row to cost, in bits."""
        return row_bits(self.tables)

    @property
    def nbytes(self) -> int:
        own_row_bits = self.row_bits.nbytes if "row_bits" in vars(self) else 0
        return self.tables.nbytes + own_row_bits + self._zeros.nbytes

    def _offsets(self, rows: Rows) -> npt.NDArray[Any]:
        """What kernels take for the offsets: those of all symbols, or zeros for one unit."""
        if len(rows.offsets) == len(rows.row_index):
            return rows.offsets
        zeros = self._zeros
        if len(zeros) < rows.symbols:
            zeros = self._zeros = kernel_input(np.zeros(rows.symbols, self.compute_dtype))
        return zeros[: rows.symbols]

    def encode(self, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        rows.check_values(values)
        values = kernel_input(self.to_compute(values, rows))
        units = len(values)
        lengths, statuses = np.empty(units, np.uint32), np.empty(units, np.uint8)
        positions = np.empty(units, np.int64)
        # Two bytes hold any symbol but an escape. Where there are many escapes, the kernel stops before the
        # payload is full, and the remaining units get one that holds whatever they are.
        capacity = encoded_capacity(0) + (2 * rows.symbols + PAYLOAD_SLACK_BYTES) * units
        pieces: list[bytes] = []
        offsets = self._offsets(rows)
        unit = escapes = 0
        while unit < units:
            payload = np.empty(capacity, np.uint8)
            unit, end, escaped = encode_units(
                values,
                offsets,
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
        content, units = checked_payload(payload, lengths), len(lengths)
        rows.check_units(units)
        values = np.empty((units, rows.symbols), self.compute_dtype)
        if units == 1:
            statuses, positions = self._decode_single(content, rows, values[0])
            return DecodedUnits(self.to_wire(values, rows), statuses, positions)
        statuses, positions = np.empty(units, np.uint8), np.empty(units, np.int64)
        decode_units(
            content,
            kernel_input(lengths),
            self._offsets(rows),
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
            self._offsets(rows),
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
