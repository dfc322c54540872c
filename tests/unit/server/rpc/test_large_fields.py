"""Messages with one large field are read as the whole message is."""

from __future__ import annotations

import numpy as np
import pytest

from entropyd.contract.wire import tensor_fields, tensor_parts
from entropyd.v1 import coding_pb2
from entropyd_server.rpc.large_fields import LargeMessage

# Around the sizes at which a length takes another byte.
SHAPES = [(), (0,), (3, 0, 2), (1,), (31,), (32,), (33,), (4095,), (4096,), (2, 3, 5), (1024, 513)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_read_as_the_whole_message(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    errors = [coding_pb2.UnitError(unit=2, cause=coding_pb2.UNIT_ERROR_CAUSE_CHECKSUM)]
    fields, elements = tensor_parts(array)
    message = coding_pb2.DecompressResponse(tensor=fields, unit_errors=errors)
    whole = coding_pb2.DecompressResponse(tensor=tensor_fields(array), unit_errors=errors)

    large = LargeMessage(message, (1, 3), elements)
    assert coding_pb2.DecompressResponse.FromString(large.SerializeToString()) == whole

    around = coding_pb2.DecompressStreamResponse(request_id="a", response=message)
    read = coding_pb2.DecompressStreamResponse.FromString(
        LargeMessage(around, (3, 1, 3), elements).SerializeToString()
    )
    assert read == coding_pb2.DecompressStreamResponse(request_id="a", response=whole)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f8"])
def test_elements_are_little_endian_whatever_they_were(dtype: str) -> None:
    array = np.arange(12, dtype=dtype).reshape(3, 4).T
    fields, elements = tensor_parts(array)
    message = coding_pb2.DecompressResponse(tensor=fields)
    read = coding_pb2.DecompressResponse.FromString(
        LargeMessage(message, (1, 3), elements).SerializeToString()
    )
    assert read.tensor.data == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert read.tensor.shape == [4, 3]
