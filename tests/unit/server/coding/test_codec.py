"""Laws of codecs: dtypes, shapes, independence of units, and errors that name the element."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError
from entropyd_server.coding.coders import RangeCoder
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.self_test import warm_up
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.kernels.range_encoder import encode_units
from entropyd_server.kernels.single_decoder import decode_far, decode_near
from tests.support import reference_coder
from tests.support.coding_cases import tables_of

if TYPE_CHECKING:
    from entropyd_server.coding.tables import CodingTables

LEVELS = 3
CHANNELS = 2
ROWS = [([0, 5 + k, 90, 100, 256], -k) for k in range(LEVELS * CHANNELS)]
UNIT_SHAPE = (2, 3, CHANNELS)
SYMBOLS = 12


def codec_of(
    bottleneck_dtype: str, *, tables: CodingTables | None = None, **config: Any
) -> UniversalBatchedCodec:
    arguments: dict[str, Any] = {
        "model_id": "test",
        "tables": tables or tables_of(8, ROWS),
        "prior_shape": (CHANNELS,),
        "coding_rank": 3,
        "num_noise_levels": LEVELS,
    } | config
    return UniversalBatchedCodec(bottleneck_dtype=bottleneck_dtype, **arguments)


def arrays(dtype: npt.DTypeLike) -> st.SearchStrategy[npt.NDArray[Any]]:
    width: Any = np.dtype(dtype).itemsize * 8
    return hnp.arrays(
        dtype,
        st.tuples(st.integers(0, 4), st.just(SYMBOLS)),
        elements=st.floats(-8, 8, width=width) | st.floats(-60000, 60000, width=width),
    )


def quantized(values: npt.NDArray[Any], codec: UniversalBatchedCodec) -> list[list[int]]:
    unit_rows = codec.rows(UNIT_SHAPE[:2])
    integers: list[list[int]] = np.rint(values - unit_rows.offsets).astype(np.int64).tolist()
    return integers


@pytest.mark.parametrize("bottleneck_dtype", ["float32", "float64"])
@given(data=st.data())
def test_compressing_is_universal_quantization_and_the_reference_coder(
    bottleneck_dtype: str, data: st.DataObject
) -> None:
    codec = codec_of(bottleneck_dtype)
    unit_rows = codec.rows(UNIT_SHAPE[:2])
    values = data.draw(arrays(bottleneck_dtype))
    encoded = codec.encode(values, unit_rows)
    rows = [ROWS[index] for index in unit_rows.row_index]
    expected = [reference_coder.encode(unit, rows, 8) for unit in quantized(values, codec)]
    assert encoded.payload == b"".join(expected)
    assert encoded.lengths.tolist() == [len(string) for string in expected]
    decoded = codec.decode(encoded.payload, encoded.lengths, unit_rows)
    restored = np.rint(values - unit_rows.offsets) + unit_rows.offsets
    assert decoded.values.dtype == values.dtype
    assert decoded.values.tolist() == restored.tolist()
    assert not decoded.statuses.any()


@given(arrays(np.float16))
def test_float16_is_coded_as_the_float32_it_stands_for(values: npt.NDArray[np.float16]) -> None:
    half, single = codec_of("float16"), codec_of("float32")
    encoded = half.encode(values, half.rows((2, 3)))
    unit_rows = single.rows((2, 3))
    wide = single.encode(values.astype(np.float32), unit_rows)
    assert encoded.payload == wide.payload
    decoded = half.decode(encoded.payload, encoded.lengths, half.rows((2, 3))).values
    expected = single.decode(wide.payload, wide.lengths, unit_rows).values
    assert decoded.dtype == np.float16
    assert decoded.tolist() == expected.astype(np.float16).tolist()


@given(arrays(np.float32))
def test_bfloat16_is_coded_as_the_float32_it_stands_for(values: npt.NDArray[np.float32]) -> None:
    brain, single = codec_of("bfloat16"), codec_of("float32")
    rounded = values.astype(ml_dtypes.bfloat16)
    encoded = brain.encode(rounded.view(np.uint16), brain.rows((2, 3)))
    unit_rows = single.rows((2, 3))
    wide = single.encode(rounded.astype(np.float32), unit_rows)
    assert encoded.payload == wide.payload
    decoded = brain.decode(encoded.payload, encoded.lengths, brain.rows((2, 3))).values
    expected = single.decode(wide.payload, wide.lengths, unit_rows).values
    assert decoded.dtype == np.uint16
    assert decoded.tolist() == expected.astype(ml_dtypes.bfloat16).view(np.uint16).tolist()


def test_a_float16_beyond_the_largest_is_an_infinity_without_a_warning() -> None:
    single, half = codec_of("float32"), codec_of("float16")
    encoded = single.encode(np.full((1, SYMBOLS), 70000, np.float32), single.rows((2, 3)))
    decoded = half.decode(encoded.payload, encoded.lengths, half.rows((2, 3)))
    assert np.isposinf(decoded.values).all()


@pytest.mark.parametrize("bottleneck_dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_bad_unit_changes_nothing_for_the_others(bottleneck_dtype: str) -> None:
    codec = codec_of(bottleneck_dtype)
    unit_rows = codec.rows((2, 3))
    values = np.zeros((3, SYMBOLS), codec.wire_dtype)
    good = codec.encode(values[:2], unit_rows)
    values[1, 7] = 0x7FC0 if bottleneck_dtype == "bfloat16" else np.nan
    encoded = codec.encode(values, unit_rows)
    assert encoded.payload == good.payload
    assert encoded.lengths.tolist() == [good.lengths[0], 0, good.lengths[1]]
    assert encoded.statuses.tolist() == [Status.OK, Status.NOT_FINITE, Status.OK]
    assert encoded.positions.tolist() == [-1, 7, -1]

    string = good.payload[: good.lengths[0]]
    payload, lengths = string + b"\xff" * 40 + string, np.array([len(string), 40, len(string)], np.uint32)
    decoded = codec.decode(payload, lengths, unit_rows)
    assert decoded.statuses.tolist() == [Status.OK, Status.NOT_AT_END, Status.OK]
    alone = codec.decode(string, lengths[:1], unit_rows).values[0]
    assert decoded.values[0].tolist() == decoded.values[2].tolist() == alone.tolist()
    bad = decoded.values[1].view(ml_dtypes.bfloat16) if bottleneck_dtype == "bfloat16" else decoded.values[1]
    assert np.isnan(bad.astype(np.float64)).all()


def test_the_sanity_check_can_be_left_out() -> None:
    lengths = np.array([40], np.uint32)
    for check, status in [(True, Status.NOT_AT_END), (False, Status.OK)]:
        codec = codec_of("float32", coder=RangeCoder(decode_sanity_check=check))
        assert codec.decode(b"\xff" * 40, lengths, codec.rows((2, 3))).statuses.tolist() == [status]


def test_units_without_symbols_are_empty_strings() -> None:
    codec = codec_of("float32")
    unit_rows = codec.rows((0, 3))
    encoded = codec.encode(np.empty((2, 0), np.float32), unit_rows)
    assert (encoded.payload, encoded.lengths.tolist()) == (b"", [0, 0])
    decoded = codec.decode(b"", encoded.lengths, unit_rows)
    assert decoded.values.shape == (2, 0)
    assert decoded.statuses.tolist() == [Status.OK, Status.OK]
    # As in TFC: zeros are implied behind any string, so these are the same empty string.
    decoded = codec.decode(b"\0\0\0\1", np.array([2, 2], np.uint32), unit_rows)
    assert decoded.statuses.tolist() == [Status.OK, Status.NOT_AT_END]


def test_no_units_are_no_strings() -> None:
    codec = codec_of("float32")
    unit_rows = codec.rows((2, 3))
    encoded = codec.encode(np.empty((0, SYMBOLS), np.float32), unit_rows)
    assert (encoded.payload, len(encoded.lengths)) == (b"", 0)
    assert codec.decode(b"", encoded.lengths, unit_rows).values.shape == (0, SYMBOLS)


def test_many_escapes_need_no_more_than_a_second_payload() -> None:
    codec = codec_of("float64")
    unit_rows = codec.rows((200, 3))
    values = np.full((3, unit_rows.symbols), -(2.0**29))
    values[1] = codec.tables.cdf_offset[unit_rows.row_index] + unit_rows.offsets
    encoded = codec.encode(values, unit_rows)
    rows = [ROWS[index] for index in unit_rows.row_index]
    assert encoded.payload == b"".join(
        reference_coder.encode(unit, rows, 8)
        for unit in np.rint(values - unit_rows.offsets).astype(int).tolist()
    )
    assert encoded.escapes == 2 * unit_rows.symbols


def specialisations() -> list[int]:
    kernels: list[Any] = [encode_units, decode_units, decode_far, decode_near]
    return [len(kernel.signatures) for kernel in kernels]


@pytest.mark.parametrize("intervals", [4, 300])
@pytest.mark.parametrize("bottleneck_dtype", ["float16", "bfloat16", "float32", "float64"])
def test_no_kind_of_array_makes_a_request_wait_for_compilation(bottleneck_dtype: str, intervals: int) -> None:
    warm_up()
    compiled = specialisations()
    tables = tables_of(12, [([*range(intervals), 4096], -k) for k in range(LEVELS * CHANNELS)])
    codec = codec_of(bottleneck_dtype, tables=tables)
    unit_rows = codec.rows((2, 3))
    plain = np.zeros((2, SYMBOLS), codec.wire_dtype)
    read_only = np.frombuffer(plain.tobytes(), codec.wire_dtype).reshape(2, SYMBOLS)
    unaligned = np.frombuffer(b"x" + plain.tobytes(), codec.wire_dtype, offset=1).reshape(2, SYMBOLS)
    strided = np.zeros((4, SYMBOLS), codec.wire_dtype)[::2]
    encoded = [codec.encode(values, unit_rows) for values in (plain, read_only, unaligned, strided)]
    assert len({units.payload for units in encoded}) == 1
    for units in (encoded[0], codec.encode(plain[:1], unit_rows)):
        frozen = np.frombuffer(units.lengths.tobytes(), np.uint32)
        decoded = [
            codec.decode(kind(units.payload), lengths, unit_rows).values.tolist()
            for kind in (bytes, bytearray, memoryview)
            for lengths in (units.lengths, frozen)
        ]
        assert decoded.count(decoded[0]) == 6
    # Once whatever the dtype, and in decoding for both widths of hints.
    assert specialisations() == compiled == [1, 2, 2, 2]


def test_units_of_another_length_than_the_plan_are_refused() -> None:
    codec = codec_of("float32")
    with pytest.raises(ValueError, match="units have 11 symbols, the rows have 12"):
        codec.encode(np.zeros((1, 11), np.float32), codec.rows((2, 3)))


def test_threads_share_a_codec() -> None:
    codec = codec_of("float32")
    values = np.random.default_rng(0).normal(0, 3, (4, 600)).astype(np.float32)
    expected = codec.encode(values, codec.rows((100, 3)))

    def there_and_back(_: int) -> bool:
        unit_rows = codec.rows((100, 3))
        encoded = codec.encode(values, unit_rows)
        decoded = codec.decode(encoded.payload, encoded.lengths, unit_rows)
        return encoded.payload == expected.payload and bool((abs(decoded.values - values) <= 0.501).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(there_and_back, range(40)))


def test_errors_name_unit_element_and_value() -> None:
    codec = codec_of("float32", tables=tables_of(8, [([0, 0, 256], 0)] * 6))
    unit_rows = codec.rows((2, 3))
    values = np.full((3, SYMBOLS), 4.0, np.float32)
    values[0, 11], values[1, 2], values[2, 1] = np.nan, 1e20, 0
    encoded = codec.encode(values, unit_rows)
    messages = [
        codec.error_at(
            unit_rows,
            unit=unit + 10,
            status=int(encoded.statuses[unit]),
            position=int(encoded.positions[unit]),
            value=codec.value_at(values, unit, int(encoded.positions[unit])),
        )
        for unit in range(3)
    ]
    assert messages == [
        "coding unit 10, element (1, 2, 1): NaN cannot be coded",
        "coding unit 11, element (0, 1, 0): 1.0000000200408773e+20 is 2^30 or more away from the integers "
        "that the model's tables cover",
        "coding unit 12, element (0, 0, 1): 0.0 has probability 0 in the model's tables",
    ]

    assert codec.error_at(unit_rows, unit=1, status=Status.ESCAPE_TOO_LONG, position=0) == (
        "coding unit 1, element (0, 0, 0): the bit string has an escape that no encoder writes"
    )
    assert codec.error_at(unit_rows, unit=1, status=Status.NOT_AT_END, position=-1) == (
        "coding unit 1: the bit string does not end where the coding unit does (decode sanity check)"
    )


def test_values_are_shown_in_every_dtype() -> None:
    assert codec_of("bfloat16").value_at(np.array([[0x3FC0]], np.uint16), 0, 0) == 1.5
    assert codec_of("float16").value_at(np.array([[0, 1.5]], np.float16), 0, 1) == 1.5


@pytest.mark.parametrize("shape", [(), (2,), (2, 3, 2), (2, -1)])
def test_a_broadcast_shape_of_wrong_rank_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTensorError, match="broadcast_shape"):
        codec_of("float32").rows(shape)


def test_lengths_that_do_not_add_up_are_refused() -> None:
    codec = codec_of("float32")
    with pytest.raises(ValueError, match="lengths add up to 3 bytes, payload has 2"):
        codec.decode(b"ab", np.array([1, 2], np.uint32), codec.rows((2, 3)))


def test_a_config_that_does_not_fit_its_tables_is_refused_with_all_its_problems() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        codec_of("int8", prior_shape=(2, 4), coding_rank=1, num_noise_levels=0)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["bottleneck_dtype", "coding_rank", "cdf", "num_noise_levels"]


def test_memory_is_counted_with_the_plans() -> None:
    codec = codec_of("float32")
    assert codec.nbytes == codec.tables.nbytes
    unit_rows = codec.rows((2, 3))
    row_bits_bytes = 8 * len(codec.tables.cdf_offset)
    assert codec.nbytes == codec.tables.nbytes + row_bits_bytes + unit_rows.nbytes
