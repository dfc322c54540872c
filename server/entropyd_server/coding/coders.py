"""Coders of integers under a model's tables: what turns them into bit strings and back.

Each brings its kernels, which share the tables, the choice of rows and the statuses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.codec import EncodedUnits
from entropyd_server.coding.rows import Rows
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.elements import ELEMENT_OF_DTYPE
from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.kernels.range_encoder import (
    PAYLOAD_GUARD_BYTES,
    PAYLOAD_SLACK_BYTES,
    encode_units,
    encoded_capacity,
)
from entropyd_server.kernels.rans64 import PRECISION
from entropyd_server.kernels.rans64_decoder import decode_rans64
from entropyd_server.kernels.rans64_encoder import encode_rans64, rans64_capacity
from entropyd_server.kernels.single_decoder import decode_far, decode_near

Statuses = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

# Statuses and positions of one unit that did not fail.
_ONE_OK = kernel_input(np.array([Status.OK], np.uint8)), kernel_input(np.array([-1], np.int64))
_NO_OFFSETS = kernel_bytes(np.empty(0, np.uint8))
# Made once, because a small call notices what NumPy takes to make them of types.
_UINT8, _UINT32, _INT64 = np.dtype(np.uint8), np.dtype(np.uint32), np.dtype(np.int64)


class Coder(ABC):
    """A coder. What it takes is checked: values, rows and lengths fit each other.

    Attributes:
      precision: That of the tables that it takes; 0 if it takes tables of any.
    """

    precision: ClassVar[int] = 0

    def prepare(self, tables: CodingTables) -> None:  # noqa: B027 - most coders need nothing else
        """Derives what this coder takes besides, so that the codec's size is known before it codes."""

    @abstractmethod
    def encode(self, tables: CodingTables, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        """Encodes rint(value - offset), or symbols; see `Codec.encode`.

        Args:
          tables: Those of the model.
          values: [units, symbols], a dtype of `kernels.elements`; floats are of that of `rows.offsets`.
          rows: Of these units.
        """

    @abstractmethod
    def decode(
        self,
        tables: CodingTables,
        content: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[Statuses, Positions]:
        """Decodes to symbol + offset, or to symbols; see `Codec.decode`.

        Args:
          tables: Those of the model.
          content: uint8 [bytes], all strings.
          lengths: uint32 [units], bytes of each.
          rows: Of these units.
          values: [units, symbols], as for `encode`, written; NaN, or 0, throughout a unit that failed.
        """


@dataclass(frozen=True)
class RangeCoder(Coder):
    """The range coder of TensorFlow Compression.

    Attributes:
      decode_sanity_check: Whether decoding refuses strings that no encoder could have ended that way.
    """

    decode_sanity_check: bool = True

    def encode(self, tables: CodingTables, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        elements, element, offsets = _as_kernels_take(values, rows)
        arguments = (
            elements,
            element,
            values.shape[1],
            offsets,
            rows.row_index,
            rows.unit_stride,
            tables.rows,
            tables.bounds,
            tables.precision,
        )
        return _encode(encode_units, arguments, encoded_capacity, values.shape, PAYLOAD_GUARD_BYTES)

    def decode(
        self,
        tables: CodingTables,
        content: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[Statuses, Positions]:
        units = len(values)
        if units == 1:
            return self._decode_single(tables, content, rows, values)
        elements, element, offsets = _as_kernels_take(values, rows)
        statuses, positions = np.empty(units, np.uint8), np.empty(units, np.int64)
        decode_units(
            content,
            kernel_input(lengths),
            rows.symbols,
            rows.row_index,
            rows.unit_stride,
            tables.rows,
            tables.bounds,
            tables.hints,
            tables.intervals,
            tables.precision,
            self.decode_sanity_check,
            elements,
            element,
            offsets,
            statuses,
            positions,
        )
        return statuses, positions

    def _decode_single(
        self,
        tables: CodingTables,
        content: npt.NDArray[np.uint8],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[Statuses, Positions]:
        """Decodes the one unit of `content`; returns statuses and positions.

        Handing `decode_units` its arrays takes longer by as much as decoding 200 symbols.
        """
        elements, element, offsets = _as_kernels_take(values, rows)
        row_index = rows.row_index
        near = tables.near
        decode, intervals = (decode_near, near) if len(near) else (decode_far, tables.intervals)
        # fmt: off
        status, position = decode(
            content, 0, len(content), row_index, tables.rows, tables.hints, intervals,
            self.decode_sanity_check, elements, element, 0, offsets, 0,
        )
        # fmt: on
        if not status:
            return _ONE_OK
        values.fill(np.nan if values.dtype.kind == "f" else 0)
        return np.array([status], np.uint8), np.array([position], np.int64)


@dataclass(frozen=True)
class Rans64Coder(Coder):
    """CompressAI's rANS coder. Its end is always checked."""

    precision: ClassVar[int] = PRECISION

    def prepare(self, tables: CodingTables) -> None:
        tables.rans64  # noqa: B018 - cached there

    def encode(self, tables: CodingTables, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        derived = tables.rans64
        elements, element, offsets = _as_kernels_take(values, rows)
        arguments = (
            elements,
            element,
            values.shape[1],
            offsets,
            rows.row_index,
            rows.unit_stride,
            derived.rows,
            tables.bounds,
            derived.dividers,
        )
        return _encode(encode_rans64, arguments, rans64_capacity, values.shape, 0)

    def decode(
        self,
        tables: CodingTables,
        content: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[Statuses, Positions]:
        elements, element, offsets = _as_kernels_take(values, rows)
        statuses, positions = np.empty(len(values), np.uint8), np.empty(len(values), np.int64)
        decode_rans64(
            content,
            kernel_input(lengths),
            rows.symbols,
            rows.row_index,
            rows.unit_stride,
            tables.rans64.rows,
            tables.rans64.slots,
            tables.intervals,
            elements,
            element,
            offsets,
            statuses,
            positions,
        )
        return statuses, positions


def _as_kernels_take(
    values: npt.NDArray[Any], rows: Rows
) -> tuple[npt.NDArray[np.uint8], int, npt.NDArray[np.uint8]]:
    """Bytes of elements, what they are, and bytes of their offsets, of which symbols have none."""
    offsets = rows.offset_bytes if values.dtype.kind == "f" and len(rows.offsets) else _NO_OFFSETS
    return values.ravel().view(_UINT8), ELEMENT_OF_DTYPE[values.dtype], offsets


def _encode(
    kernel: Callable[..., tuple[int, int, int]],
    arguments: tuple[Any, ...],
    capacity_of: Callable[[int], int],
    shape: tuple[int, ...],
    guard_bytes: int,
) -> EncodedUnits:
    """Calls a kernel until all units [units, symbols] are encoded, behind `guard_bytes` of each payload."""
    units, symbols = shape
    written = np.empty(units, _UINT32), np.empty(units, _UINT8), np.empty(units, _INT64)
    # Two bytes hold any symbol but an escape. Where there are many escapes, the kernel stops before the
    # payload is full, and the remaining units get one that holds whatever they are.
    capacity = capacity_of(0) + (2 * symbols + PAYLOAD_SLACK_BYTES) * units
    pieces: list[bytes] = []
    unit = escapes = 0
    while unit < units:
        payload = np.empty(capacity, _UINT8)
        unit, end, escaped = kernel(*arguments, unit, payload, *written)
        escapes += escaped
        pieces.append(payload[guard_bytes:end].tobytes())
        capacity = capacity_of((units - unit) * symbols)
    return EncodedUnits(b"".join(pieces), *written, escapes)
