"""Coding with a run-length Elias gamma code, without tables.

Source: `PowerLawEntropyModel` of TensorFlow Compression (python/entropy_models/power_law.py). TFC codes NaN,
infinities and magnitudes of 2^31 or more as -2^31; here they are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.codec import Codec, EncodedUnits
from entropyd_server.coding.rows import Rows, RowsByShape, Shape
from entropyd_server.kernels.elements import ELEMENT_OF_DTYPE
from entropyd_server.kernels.jit import kernel_bytes, kernel_input
from entropyd_server.kernels.run_length_gamma import decode_gamma_units, encode_gamma_units, gamma_capacity

if TYPE_CHECKING:
    from typing_extensions import Self

# A payload holds units of so many bytes at most, but one unit whatever its size.
_PAYLOAD_BYTES = 1 << 24


class PowerLawCodec(RowsByShape, Codec):
    """Codec without tables, whose `Rows` are the shape of a unit alone."""

    out_of_range: ClassVar[str] = "is 2^31 or more in magnitude"

    @classmethod
    def of(cls, config: Any, tables: None = None) -> Self:
        del tables
        return cls(
            model_id=config.model_id,
            kind=config.kind,
            coding_rank=config.coding_rank,
            bottleneck_dtype=config.bottleneck_dtype,
        )

    def _build_rows(self, broadcast_shape: Shape) -> Rows:
        return Rows(self.unit_shape(broadcast_shape), np.empty(0, np.int32), np.empty(0, self.compute_dtype))

    def encode(self, values: npt.NDArray[Any], rows: Rows) -> EncodedUnits:
        rows.check_values(values)
        if values.dtype == self.wire_dtype:
            values = self.to_compute(values, rows)
        elements, element = kernel_bytes(values), ELEMENT_OF_DTYPE[values.dtype]
        units = len(values)
        lengths, statuses = np.empty(units, np.uint32), np.empty(units, np.uint8)
        positions = np.empty(units, np.int64)
        unit_capacity = gamma_capacity(rows.symbols)
        pieces: list[bytes] = []
        unit = 0
        while unit < units:
            capacity = min((units - unit) * unit_capacity, max(_PAYLOAD_BYTES, unit_capacity))
            payload = np.empty(capacity, np.uint8)
            unit, end = encode_gamma_units(
                elements, element, rows.symbols, unit, payload, lengths, statuses, positions
            )
            pieces.append(payload[:end].tobytes())
        return EncodedUnits(b"".join(pieces), lengths, statuses, positions, 0)

    def _decode(
        self,
        content: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.uint32],
        rows: Rows,
        values: npt.NDArray[Any],
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        units = len(lengths)
        statuses, positions = np.empty(units, np.uint8), np.empty(units, np.int64)
        elements, element = values.reshape(-1).view(np.uint8), ELEMENT_OF_DTYPE[values.dtype]
        decode_gamma_units(
            content, kernel_input(lengths), rows.symbols, elements, element, statuses, positions
        )
        return statuses, positions
