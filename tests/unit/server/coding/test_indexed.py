"""Laws of rows that a caller chooses: what is no row is named, and units are coded as each alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError
from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.universal_indexed import UniversalIndexedCodec
from entropyd_server.coding.operations import DECOMPRESS, DecompressWork, Strings
from entropyd_server.coding.self_test import warm_up
from entropyd_server.kernels.philox import fill_uniform
from entropyd_server.kernels.range_decoder import decode_units
from entropyd_server.kernels.range_encoder import encode_units
from entropyd_server.kernels.row_choice import add_levels, total_bits, widen_rows
from entropyd_server.kernels.run_length_gamma import decode_gamma_units, encode_gamma_units
from entropyd_server.kernels.single_decoder import decode_far, decode_near
from tests.support import reference_coder
from tests.support.coding_cases import tables_of

if TYPE_CHECKING:
    from entropyd_server.coding.codec import Codec
    from entropyd_server.coding.indexed import IndexedCodec
    from entropyd_server.coding.rows import Rows

RANGES = (2, 3)
LEVELS = 3
ROWS = [([0, 5 + k, 90, 100, 256], -k) for k in range(LEVELS * 6)]
SHAPE = (3, 4)


def codec_of(levels: int, dtype: str = "float32", ranges: tuple[int, ...] = RANGES) -> IndexedCodec:
    """A codec with noise levels, or one without for 0."""
    common: dict[str, Any] = {
        "model_id": "test",
        "tables": tables_of(8, ROWS[: max(levels, 1) * int(np.prod(ranges))]),
        "index_ranges": ranges,
        "coding_rank": 2,
        "bottleneck_dtype": dtype,
    }
    return (
        UniversalIndexedCodec(num_noise_levels=levels, **common)
        if levels
        else ContinuousIndexedCodec(**common)
    )


def planes(units: int, dtype: npt.DTypeLike = np.uint8, seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 6, (units, 12)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("levels", [0, LEVELS])
@given(units=st.integers(0, 5), seed=st.integers(0, 99))
def test_coding_is_the_reference_coder_with_the_rows_and_offsets_of_each_symbol(
    dtype: type, levels: int, units: int, seed: int
) -> None:
    codec, plane = codec_of(levels), planes(units, dtype, seed)
    numbers = np.random.default_rng(seed).permutation(9)[:units]
    rows = codec.rows_of(plane, SHAPE, numbers)
    values = np.random.default_rng(seed).normal(0, 30, (units, 12)).astype(np.float32)
    encoded = codec.encode(values, rows)
    expected, restored = [], []
    for unit, number in enumerate(numbers.tolist()):
        level = noise_levels(9 * 12, levels or 1)[number * 12 :][:12]
        offset = ((level + 1) / ((levels or 1) + 1) - 0.5).astype(np.float32)
        integers = np.rint(values[unit] - offset)
        coding_rows = [ROWS[row] for row in (level * 6 + plane[unit]).tolist()]
        expected.append(reference_coder.encode(integers.astype(int).tolist(), coding_rows, 8))
        restored.append((integers + offset).tolist())
    assert encoded.payload == b"".join(expected)
    decoded = codec.decode(encoded.payload, encoded.lengths, rows)
    assert decoded.values.tolist() == restored


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(6, np.uint8), (255, np.uint8), (6, np.uint16), (65535, np.uint16), (6, np.int32), (-1, np.int32)],
)
@pytest.mark.parametrize("levels", [0, LEVELS])
def test_what_is_no_row_is_named(value: int, dtype: type, levels: int) -> None:
    plane = planes(3, dtype)
    plane[1, 7] = plane[2, 0] = value
    with pytest.raises(InvalidTensorError) as caught:
        codec_of(levels).rows_of(plane, SHAPE, np.array([4, 5, 6]))
    (violation,) = caught.value.violations
    assert violation.field == "indexes"
    assert violation.description == (
        f"coding unit 5, element (1, 3): {value} is no row of the model; expected 0 to 5"
    )


def test_planes_that_hold_every_value_of_their_dtype_need_no_check() -> None:
    rows = [([0, 200 + k % 50, 256], 0) for k in range(256)]
    codec = ContinuousIndexedCodec(
        model_id="test",
        tables=tables_of(8, rows),
        index_ranges=(256,),
        coding_rank=1,
        bottleneck_dtype="float32",
    )
    plane = np.arange(256, dtype=np.uint8)[None]
    assert codec.rows_of(plane, (256,), np.zeros(1, np.int64)).row_index.tolist() == [*range(256)]


@pytest.mark.parametrize("levels", [0, LEVELS])
@pytest.mark.parametrize("shape", [(0, 12), (3, 0), (0, 0)])
def test_units_without_symbols_and_no_units_have_rows(levels: int, shape: tuple[int, int]) -> None:
    codec = codec_of(levels)
    unit_shape = (shape[1] // 4, 4)
    rows = codec.rows_of(np.zeros(shape, np.uint8), unit_shape, np.arange(shape[0]))
    assert rows.symbols == shape[1]
    assert rows.modelled_bits == 0.0
    encoded = codec.encode(np.zeros(shape, np.float32), rows)
    assert (encoded.payload, encoded.lengths.tolist()) == (b"", [0] * shape[0])
    assert codec.decode(b"", encoded.lengths, rows).values.shape == shape


def test_modelled_bits_are_the_mean_of_the_rows_that_are_used() -> None:
    for levels in (0, LEVELS):
        codec = codec_of(levels)
        rows = codec.rows_of(planes(5), SHAPE, np.arange(5))
        assert rows.modelled_bits == pytest.approx(codec.row_bits[rows.row_index].mean(), rel=1e-12)
        assert codec.rows_of(planes(1)[:, :3], (1, 3), np.arange(1)).modelled_bits > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_without_an_offset_take_no_memory_for_any(dtype: str) -> None:
    codec = codec_of(0, dtype)
    before = codec.nbytes
    rows = codec.rows_of(planes(100), SHAPE, np.arange(100))
    assert rows.nbytes == 100 * 12 * 4
    codec.encode(np.zeros((100, 12), dtype), rows)
    codec.encode(np.zeros((100, 12), dtype), rows)
    assert codec.nbytes - before == codec.row_bits.nbytes


@given(
    numbers=st.lists(
        st.integers(0, 40) | st.integers(90_000, 90_005) | st.integers(2**59, 2**59 + 3), min_size=1
    )
)
def test_units_take_the_dither_of_their_numbers_in_any_order(numbers: list[int]) -> None:
    codec = codec_of(LEVELS)
    together = codec.rows_of(planes(len(numbers)), SHAPE, np.array(numbers))
    for unit, number in enumerate(numbers):
        alone = codec.rows_of(planes(len(numbers))[unit : unit + 1], SHAPE, np.array([number]))
        own = slice(unit * 12, unit * 12 + 12)
        assert together.row_index[own].tolist() == alone.row_index.tolist()
        assert together.offsets[own].tolist() == alone.offsets.tolist()


@pytest.mark.parametrize("number", [-1, 2**63 - 1, 2**60])
def test_a_unit_that_no_array_has_is_refused(number: int) -> None:
    with pytest.raises(InvalidTensorError, match="unit_numbers"):
        codec_of(LEVELS).rows_of(planes(1), SHAPE, np.array([number]))


@pytest.mark.parametrize("levels", [0, LEVELS])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@given(
    callers=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 9)), min_size=1, max_size=6),
    damage=st.randoms(use_true_random=False),
)
def test_strings_of_several_callers_decode_as_each_caller_s_alone(
    levels: int, dtype: str, callers: list[tuple[int, int]], damage: Any
) -> None:
    codec = codec_of(levels, dtype)
    parts = []
    for seed, count in callers:
        rows = codec.rows_of(planes(count, seed=seed), SHAPE, np.arange(seed % 50, seed % 50 + count))
        values = np.random.default_rng(seed).normal(0, 30, (count, 12))
        values = values.astype(np.float32) if dtype == "bfloat16" else values.astype(dtype)
        if dtype == "bfloat16":
            values = (values.view(np.uint32) >> 16).astype(np.uint16)
        encoded = codec.encode(values, rows)
        payload = bytearray(encoded.payload)
        for _ in range(damage.randrange(3) if payload else 0):
            payload[damage.randrange(len(payload))] ^= damage.randrange(256)
        parts.append((DecompressWork(codec, rows, Strings(bytes(payload), encoded.lengths)), 0, count))
    for decoded, (work, _, _) in zip(DECOMPRESS.run(parts), parts, strict=True):
        alone = codec.decode(*work.strings, work.rows)
        assert decoded.values.tobytes() == alone.values.tobytes()
        assert decoded.statuses.tolist() == alone.statuses.tolist()
        assert decoded.positions.tolist() == alone.positions.tolist()


def test_a_config_that_does_not_fit_its_tables_is_refused_with_all_its_problems() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        codec_of(0, "int8", ranges=(2, 2, 7))
    assert [violation.field for violation in caught.value.violations] == ["bottleneck_dtype", "cdf"]
    assert "has 18 rows; expected 28, 1 times the 28 of index_ranges" in str(caught.value)


def test_a_plane_of_integers_that_int32_may_lack_is_refused() -> None:
    with pytest.raises(ValueError, match="the plane is int64; expected uint8, uint16 or int32"):
        codec_of(0).rows_of(planes(3, np.int64) + 2**32, SHAPE, np.arange(3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_no_kind_of_plane_or_string_makes_a_request_wait_for_compilation(dtype: str) -> None:
    kernels: list[Any] = [
        *(encode_units, decode_units, decode_far, decode_near, encode_gamma_units, decode_gamma_units),
        *(add_levels, total_bits, fill_uniform, widen_rows),
    ]
    warm_up()
    compiled = [len(kernel.signatures) for kernel in kernels]
    gamma = PowerLawCodec(model_id="test", coding_rank=2, bottleneck_dtype=dtype)
    values = np.zeros((3, 12), gamma.wire_dtype)
    read_only = np.frombuffer(values.tobytes(), values.dtype).reshape(3, 12)
    coded: list[tuple[Codec, Rows]] = [(gamma, gamma.rows(SHAPE))]
    for levels in (0, LEVELS):
        codec = codec_of(levels, dtype)
        for plane in (planes(3), planes(3, np.uint16), planes(3, np.int32), planes(6)[::2], planes(3).view()):
            plane.flags.writeable = False
            coded.append((codec, codec.rows_of(plane, SHAPE, np.arange(3))))
            assert coded[-1][1].modelled_bits > 0
        coded.append((codec, codec.rows_of(planes(3), SHAPE, np.array([5, 90_000, 1]))))
    for coder, rows in coded:
        for array in (values, read_only):
            encoded = coder.encode(array, rows)
            for payload in (encoded.payload, bytearray(encoded.payload)):
                coder.decode(payload, encoded.lengths, rows)
            coder.decode(encoded.payload[: encoded.lengths[0]], encoded.lengths[:1], rows.of_units(0, 1))
    assert [len(kernel.signatures) for kernel in kernels] == compiled
