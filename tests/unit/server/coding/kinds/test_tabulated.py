"""Laws of coding with tables alone: strings and values are those of the arithmetic, naively written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd import InvalidConfigError, TabulatedConfig
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.kinds.tabulated import TabulatedIndexedCodec
from entropyd_server.coding.tables import CodingTables
from tests.support import reference_coder
from tests.unit.server.coding.kinds.test_continuous_batched import TYPES

ROWS = ([0, 5, 11, 16], [0, 16], [0, 1, 2, 3, 4, 16])
OFFSETS = (-1, 0, 40)


def config(**given: object) -> TabulatedConfig:
    return TabulatedConfig(list(ROWS), OFFSETS, 1, precision=4, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_strings_and_values_are_those_of_the_naive_arithmetic(dtype: str, data: st.DataObject) -> None:
    kind = TYPES[dtype]
    offset = data.draw(st.none() | st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3))
    made = config(row_by="index", bottleneck_dtype=dtype, quantization_offset=offset)
    codec = codec_of(made, CodingTables.parse(*made.supplied_tables))
    assert isinstance(codec, TabulatedIndexedCodec)
    shape = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 4))
    size = shape[0] * shape[1]
    values = data.draw(st.lists(st.floats(-3e4, 3e4) | st.floats(-9, 9), min_size=size, max_size=size))
    plane = np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)), np.uint8)
    plane = plane.reshape(shape)
    x = np.array(values, np.float32).astype(kind).reshape(shape)
    own = None if offset is None else made.quantization_offset.astype(kind)[plane]
    # Both operations round to the dtype, as NumPy and ml_dtypes do.
    integers = np.rint((x if own is None else x - own).astype(np.float64)).astype(np.int64)
    rows = codec.rows_of(plane, shape[1:], np.arange(shape[0]))
    encoded = codec.encode(x.view(codec.wire_dtype), rows)
    assert encoded.all_ok
    ends = np.cumsum(encoded.lengths, dtype=np.int64)
    for unit, end in enumerate(ends.tolist()):
        expected = reference_coder.encode(
            integers[unit].tolist(), [(ROWS[row], OFFSETS[row]) for row in plane[unit]], 4
        )
        assert encoded.payload[end - int(encoded.lengths[unit]) : end] == expected
    decoded = codec.decode(encoded.payload, encoded.lengths, rows)
    assert decoded.all_ok
    with np.errstate(over="ignore"):
        restored = integers.astype(np.float32 if dtype != "float64" else np.float64).astype(kind)
        expected_values = restored if own is None else restored + own
    np.testing.assert_array_equal(decoded.values.view(kind).reshape(shape), expected_values)


def test_rows_by_position_are_coded_as_those_of_a_continuous_batched_model() -> None:
    made = config()
    codec = codec_of(made, CodingTables.parse(*made.supplied_tables))
    assert isinstance(codec, ContinuousBatchedCodec)
    assert (codec.kind, codec.unit_axes) == ("tabulated", (3,))


def test_tables_of_other_rows_are_refused() -> None:
    made = config(row_by="index")
    cdf, cdf_offset, _ = made.supplied_tables
    with pytest.raises(InvalidConfigError, match="cdf has 2 rows; expected 3"):
        codec_of(made, CodingTables.parse(cdf[: -len(ROWS[2]) - 1], cdf_offset[:2]))
