"""Large responses are read as protobuf reads them, into arrays that NumPy is fast with."""

from __future__ import annotations

import numpy as np
import pytest

from entropyd._arrays import tensor_array
from entropyd._session_base import _decompressed
from entropyd.contract.wire import tensor_fields
from entropyd.v1 import coding_pb2


@pytest.mark.parametrize("symbols", [7, 1 << 15, (1 << 15) + 3, 1 << 17])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_array_is_read_aligned_and_read_only_beside_its_errors(dtype: str, symbols: int) -> None:
    array = np.random.default_rng(0).normal(size=(1, symbols)).astype(dtype)
    errors = [coding_pb2.UnitError(unit=3, element=5)]
    data = coding_pb2.DecompressResponse(tensor=tensor_fields(array), unit_errors=errors).SerializeToString()
    response = _decompressed(data)
    found = tensor_array(response.tensor)
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert found.shape == array.shape
    assert found.flags.aligned
    assert not found.flags.writeable
    assert list(response.unit_errors) == errors
