"""Compresses arrays by Compress calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from entropyd._arrays import bottleneck_array
from entropyd._chunking import CHUNK_BYTES
from entropyd._info import ModelInfo
from entropyd.archive import MeasuredTensor, RateReport
from entropyd.contract.wire import tensor_fields
from entropyd.v1 import coding_pb2


@dataclass
class Compression:
    """Compresses an array, in chunks if it is large; see `_chunking.Work`. Refuses other dtypes."""

    method: ClassVar[str] = "Compress"

    model: ModelInfo
    bottleneck: Any
    units: int = field(init=False)
    _responses: list[coding_pb2.CompressResponse] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._array = bottleneck_array(self.model, self.bottleneck)
        # An array of too small a rank is sent as it is: the server refuses it.
        batch_axes = max(self._array.ndim - self.model.config.coding_rank, 0)
        self._batch_shape = self._array.shape[:batch_axes]
        self.units = prod(self._batch_shape)
        self._unit_bytes = self._array.nbytes // max(self.units, 1)

    def requests(self) -> Iterator[tuple[coding_pb2.CompressRequest, int]]:
        """Compress requests, one for an array of up to CHUNK_BYTES."""
        step = max(CHUNK_BYTES // max(self._unit_bytes, 1), 1)
        if self.units <= step:
            yield self._request(self._array), self.units
            return
        flat = self._array.reshape(self.units, *self._array.shape[len(self._batch_shape) :])
        for first in range(0, self.units, step):
            chunk = flat[first : first + step]
            yield self._request(chunk, first), len(chunk)

    def _request(self, array: npt.NDArray[Any], first_unit: int = 0) -> coding_pb2.CompressRequest:
        return coding_pb2.CompressRequest(
            model_id=self.model.id, bottleneck=tensor_fields(array), first_unit=first_unit
        )

    def add(self, response: coding_pb2.CompressResponse) -> None:
        self._responses.append(response)

    def result(self) -> MeasuredTensor:
        """The compressed array."""
        chunks = [
            MeasuredTensor.from_message(response.compressed, response.rate) for response in self._responses
        ]
        if len(chunks) == 1:
            return chunks[0]
        rates = [chunk.rate for chunk in chunks]
        first = chunks[0]
        return MeasuredTensor(
            first.model_id,
            first.tables_digest,
            first.dtype,
            self._batch_shape,
            first.broadcast_shape,
            b"".join(chunk.payload for chunk in chunks),
            np.concatenate([chunk.lengths for chunk in chunks]),
            tuple(block for chunk in chunks for block in chunk.blocks),
            RateReport(
                sum(rate.symbols for rate in rates),
                sum(rate.escaped_symbols for rate in rates),
                sum(rate.uncompressed_bytes for rate in rates),
                sum(rate.compressed_bytes for rate in rates),
            ),
        )
