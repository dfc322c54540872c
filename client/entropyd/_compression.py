"""Compresses arrays by Compress calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from entropyd._arrays import bottleneck_array, broadcast_bottleneck, check_first_unit, check_inputs
from entropyd._chunking import CHUNK_BYTES
from entropyd._indexes import row_plane
from entropyd._info import ModelInfo
from entropyd._location import less_location, location_array
from entropyd._symbols import Symbols
from entropyd.archive import MeasuredTensor, RateReport
from entropyd.archive.units import joined
from entropyd.contract.large_fields import LargeMessage
from entropyd.contract.wire import tensor_parts
from entropyd.v1 import coding_pb2, types_pb2

_DATA = types_pb2.Tensor.DATA_FIELD_NUMBER
_VALUES = coding_pb2.CompressRequest.BOTTLENECK_FIELD_NUMBER, _DATA
_ROWS = coding_pb2.CompressRequest.INDEXES_FIELD_NUMBER, _DATA


@dataclass
class Compression:
    """Compresses an array, in chunks if it is large; see `_chunking.Work`. Refuses other dtypes.

    Attributes:
      bottleneck: The array.
      indexes: Of a model that takes them, and of no other.
      loc: Of a model that takes it, or None.
      first_unit: Number of the first coding unit.
      symbols: What makes the symbols that are sent in place of values; None, as at first, to send values.
    """

    method: ClassVar[str] = "Compress"

    model: ModelInfo
    bottleneck: Any
    indexes: Any = None
    loc: Any = None
    first_unit: int = 0
    symbols: Symbols | None = field(default=None, init=False)
    units: int = field(init=False)
    sent_symbols: bool = field(default=False, init=False)
    _responses: list[coding_pb2.CompressResponse] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_first_unit(self.first_unit)
        config = self.model.config
        indexed = check_inputs(config, self.indexes, self.loc)
        self._array = bottleneck_array(config, self.bottleneck, located=self.loc is not None)
        if self.loc is not None:
            location, dtype = location_array(self.loc), config.bottleneck_dtype
            self._array = less_location(self._array, location, dtype, in_place=True)
        self._rows: npt.NDArray[Any] | None = None
        if indexed is not None:
            self._rows = row_plane(indexed, self.indexes)
            self._array = broadcast_bottleneck(self._array, self._rows.shape)
        # An array of too small a rank is sent as it is: the server refuses it.
        batch_axes = max(self._array.ndim - config.coding_rank, 0)
        self._batch_shape = self._array.shape[:batch_axes]
        self.units = prod(self._batch_shape)
        self._unit_bytes = self._array.nbytes // max(self.units, 1)

    def requests(self) -> Iterator[tuple[bytes, int]]:
        """Serialised Compress requests, one for an array of up to CHUNK_BYTES."""
        step = max(CHUNK_BYTES // max(self._unit_bytes, 1), 1)
        if self.units <= step:
            yield self._request(self._array, self._rows), self.units
            return
        shape = self.units, *self._array.shape[len(self._batch_shape) :]
        flat = self._array.reshape(shape)
        rows = None if self._rows is None else self._rows.reshape(shape)
        for first in range(0, self.units, step):
            chunk = slice(first, min(first + step, self.units))
            request = self._request(flat[chunk], None if rows is None else rows[chunk], first)
            yield request, chunk.stop - first

    def _request(self, array: npt.NDArray[Any], rows: npt.NDArray[Any] | None, first: int = 0) -> bytes:
        tensor, elements = tensor_parts(array)
        if self.symbols is not None:
            symbols = self.symbols.of_values(elements, rows, self.first_unit + first)
            if symbols is not None:
                tensor, elements = tensor_parts(symbols)
                self.sent_symbols = True
        values = [(_VALUES, elements)]
        of_rows = None
        if rows is not None:
            of_rows, indexes = tensor_parts(rows)
            values.append((_ROWS, indexes))
        message = coding_pb2.CompressRequest(
            model_id=self.model.id,
            bottleneck=tensor,
            first_unit=self.first_unit + first,
            indexes=of_rows,
        )
        return LargeMessage(message, values).SerializeToString()

    def add(self, response: coding_pb2.CompressResponse) -> None:
        self._responses.append(response)

    def result(self) -> MeasuredTensor:
        """The compressed array."""
        chunks = [
            MeasuredTensor.from_message(response.compressed, response.rate) for response in self._responses
        ]
        whole = chunks[0]
        if len(chunks) > 1:
            rates = [chunk.rate for chunk in chunks]
            checksums = [chunk.indexes_crc32c for chunk in chunks]
            whole = MeasuredTensor(
                whole.model_id,
                whole.tables_digest,
                whole.dtype,
                self._batch_shape,
                whole.broadcast_shape,
                b"".join(chunk.payload for chunk in chunks),
                np.concatenate([chunk.lengths for chunk in chunks]),
                tuple(block for chunk in chunks for block in chunk.blocks),
                RateReport(
                    sum(rate.symbols for rate in rates),
                    sum(rate.escaped_symbols for rate in rates),
                    sum(rate.uncompressed_bytes for rate in rates),
                    sum(rate.compressed_bytes for rate in rates),
                ),
                joined(checksums),
            )
        if self._rows is not None and not self.units:
            # A message cannot say that there are checksums, of no units.
            whole = replace(whole, indexes_crc32c=np.empty(0, np.uint32))
        if self.model.config.numbers_units:
            numbers = np.arange(self.first_unit, self.first_unit + self.units, dtype=np.int64)
            whole = replace(whole, unit_numbers=numbers)
        return whole
