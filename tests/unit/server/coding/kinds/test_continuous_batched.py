"""Laws of coding with an offset: strings and values are those of the class's arithmetic, naively written."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd import ContinuousBatchedConfig
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.tables import CodingTables
from tests.support import reference_coder

TYPES: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}
ROWS = ([0, 3, 9, 14, 16], [0, 1, 2, 15, 16])
CDF_OFFSET = (-1, 4)


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_strings_and_values_are_those_of_the_naive_arithmetic(dtype: str, data: st.DataObject) -> None:
    kind = TYPES[dtype]
    offset = data.draw(st.none() | st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=2))
    config = ContinuousBatchedConfig(
        prior_shape=(2,),
        coding_rank=2,
        range_coder_precision=4,
        bottleneck_dtype=dtype,
        cdf=np.array([value for row in ROWS for value in (-4, *row)]),
        cdf_offset=np.array(CDF_OFFSET),
        offset_heuristic=False,
        quantization_offset=offset,
    )
    assert config.supplied_tables is not None
    codec = ContinuousBatchedCodec.of(config, CodingTables.parse(*config.supplied_tables))
    values = data.draw(st.lists(st.floats(-3e4, 3e4) | st.floats(-9, 9), min_size=6, max_size=6))
    x = np.array(values, np.float32).astype(kind).reshape(3, 2)
    narrow = np.zeros(2, kind) if offset is None else config.quantization_offset.astype(kind)
    # Both operations round to the dtype, as NumPy and ml_dtypes do.
    integers = np.rint((x if offset is None else x - narrow).astype(np.float64)).astype(np.int64)
    expected = reference_coder.encode(
        integers.reshape(-1).tolist(), list(zip(ROWS, CDF_OFFSET, strict=True)) * 3, 4
    )
    rows = codec.rows((3,))
    encoded = codec.encode(x.reshape(1, 6).view(codec.wire_dtype), rows)
    assert encoded.payload == expected
    decoded = codec.decode(encoded.payload, encoded.lengths, rows).values.view(kind).reshape(3, 2)
    with np.errstate(over="ignore"):
        restored = integers.astype(np.float32 if dtype != "float64" else np.float64).astype(kind)
        np.testing.assert_array_equal(decoded, restored if offset is None else restored + narrow)
