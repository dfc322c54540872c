"""Messages with large fields are written to the bytes of the whole message."""

from __future__ import annotations

import numpy as np
import pytest

from entropyd.contract.large_fields import LargeMessage
from entropyd.contract.wire import tensor_fields, tensor_parts
from entropyd.v1 import coding_pb2

# Around the sizes at which a length takes another byte.
SHAPES = [(), (0,), (3, 0, 2), (1,), (31,), (32,), (33,), (4095,), (4096,), (2, 3, 5), (1024, 513)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_written_to_the_bytes_of_the_whole_message(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    errors = [coding_pb2.UnitError(unit=2, cause=coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM)]
    fields, elements = tensor_parts(array)
    message = coding_pb2.DecompressResponse(tensor=fields, unit_errors=errors)
    whole = coding_pb2.DecompressResponse(tensor=tensor_fields(array), unit_errors=errors)
    assert LargeMessage(message, [((1, 3), elements)]).SerializeToString() == whole.SerializeToString()

    around = coding_pb2.DecompressStreamResponse(request_id="a", response=message)
    written = LargeMessage(around, [((3, 1, 3), elements)]).SerializeToString()
    assert written == coding_pb2.DecompressStreamResponse(request_id="a", response=whole).SerializeToString()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("first_unit", [0, 7])
def test_two_fields_are_written_each_in_its_message(first_unit: int, shape: tuple[int, ...]) -> None:
    values, rows = np.ones(shape, np.float32), np.full(shape, 3, np.uint8)
    (bottleneck, elements), (indexes, row_elements) = tensor_parts(values), tensor_parts(rows)
    message = coding_pb2.CompressRequest(bottleneck=bottleneck, first_unit=first_unit, indexes=indexes)
    whole = coding_pb2.CompressRequest(
        bottleneck=tensor_fields(values), first_unit=first_unit, indexes=tensor_fields(rows)
    )
    large = LargeMessage(message, [((2, 3), elements), ((4, 3), row_elements)])
    assert large.SerializeToString() == whole.SerializeToString()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f8"])
def test_elements_are_little_endian_whatever_they_were(dtype: str) -> None:
    array = np.arange(12, dtype=dtype).reshape(3, 4).T
    fields, elements = tensor_parts(array)
    message = coding_pb2.DecompressResponse(tensor=fields)
    read = coding_pb2.DecompressResponse.FromString(
        LargeMessage(message, [((1, 3), elements)]).SerializeToString()
    )
    assert read.tensor.data == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert read.tensor.shape == [4, 3]
