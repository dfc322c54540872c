"""Laws of indexes in Compress and Decompress: they fit their array, or are refused by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import PowerLawConfig
from entropyd.contract.errors import (
    InvalidRequestError,
    InvalidTensorError,
    LimitExceededError,
    TablesMismatchError,
)
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, types_pb2
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.tables import CodingTables
from entropyd_server.rpc.requests.coding import parse_compress, parse_decompress
from entropyd_server.rpc.requests.indexes import parse_unit_numbers
from tests.support.indexed_models import indexed_config
from tests.unit.server.rpc.requests.test_coding import CODEC as BATCHED
from tests.unit.server.rpc.requests.test_coding import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from entropyd_server.coding.codec import Codec
    from entropyd_server.rpc.requests.indexes import UnitIndexes

RANGE = 300
SHAPE = (2, 3, 4)


def make_codec(kind: str = "continuous_indexed") -> IndexedCodec:
    config = indexed_config(kind, (RANGE,))
    tables = config.supplied_tables
    assert tables is not None
    codec = codec_of(config, CodingTables.parse(tables.cdf, tables.cdf_offset))
    assert isinstance(codec, IndexedCodec)
    return codec


CODEC, NUMBERED = make_codec(), make_codec("universal_indexed")
VALUES = np.arange(24, dtype=np.float32).reshape(SHAPE)
PLANE = np.arange(24, dtype=np.uint16).reshape(SHAPE)


def compress_request(indexes: npt.NDArray[Any] | None = PLANE, **fields: Any) -> coding_pb2.CompressRequest:
    request = coding_pb2.CompressRequest(bottleneck=tensor_to_message(VALUES), **fields)
    if indexes is not None:
        request.indexes.CopyFrom(tensor_to_message(indexes))
    return request


def decompress_request(
    indexes: npt.NDArray[Any] | None = PLANE,
    codec: Codec = CODEC,
    units: Sequence[tuple[int, int]] = (),
    **changes: Any,
) -> coding_pb2.DecompressRequest:
    """Two units of the shape of `VALUES`, with fields of their CompressedTensor changed."""
    fields: dict[str, Any] = {
        "format_version": 1,
        "tables_digest": codec.tables_digest,
        "dtype": types_pb2.D_TYPE_FLOAT32,
        "batch_shape": [2],
        "broadcast_shape": SHAPE[1 : 1 + codec.coding_rank - len(codec.unit_axes)],
        "payload": b"abcd",
        "lengths": [1, 3],
        **changes,
    }
    request = coding_pb2.DecompressRequest(
        compressed=types_pb2.CompressedTensor(**fields),
        units=[coding_pb2.UnitRange(start=start, count=count) for start, count in units],
    )
    if indexes is not None:
        request.indexes.CopyFrom(tensor_to_message(indexes))
    return request


def runs(*pairs: tuple[int, int]) -> list[types_pb2.UnitNumbers]:
    return [types_pb2.UnitNumbers(first=first, count=count) for first, count in pairs]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_a_plane_of_each_dtype_is_cut_into_its_units(dtype: str) -> None:
    plane = PLANE.astype(dtype)
    compress = parse_compress(compress_request(plane), CODEC, LIMITS).indexes
    decompress = parse_decompress(decompress_request(plane), CODEC, LIMITS).indexes
    for indexes in (compress, decompress):
        assert indexes is not None
        assert (indexes.plane.dtype.name, indexes.unit_shape) == (dtype, (3, 4))
        assert np.array_equal(indexes.plane, plane.reshape(2, 12))
        assert indexes.unit_numbers.tolist() == [0, 1]


WRONG: list[tuple[npt.NDArray[Any] | None, str]] = [
    (None, "indexes"),
    *((PLANE.astype(dtype), "indexes.dtype") for dtype in ("float16", "float32", "float64")),
    (PLANE[:1], "indexes"),
    (PLANE[..., :3], "indexes"),
    (PLANE[..., None], "indexes"),
    (PLANE.reshape(2, 4, 3), "indexes"),
    (np.zeros((), np.uint8), "indexes"),
]


@pytest.mark.parametrize(("indexes", "field"), WRONG, ids=lambda value: str(value)[:20])
def test_a_plane_that_does_not_fit_is_refused_by_field(indexes: npt.NDArray[Any] | None, field: str) -> None:
    for parse in (
        lambda: parse_compress(compress_request(indexes), CODEC, LIMITS),
        lambda: parse_decompress(decompress_request(indexes), CODEC, LIMITS),
    ):
        with pytest.raises(InvalidTensorError) as caught:
            parse()
        assert [violation.field for violation in caught.value.violations] == [field]


def test_the_plane_is_that_of_the_selected_units() -> None:
    request = decompress_request(PLANE[[1, 1, 0]], units=[(1, 1), (1, 1), (0, 1)], indexes_crc32c=[7, 8])
    call = parse_decompress(request, CODEC, LIMITS)
    assert call.indexes is not None
    assert call.indexes.unit_numbers.tolist() == [1, 1, 0]
    assert call.indexes_crc32c is not None
    assert call.indexes_crc32c.tolist() == [8, 8, 7]
    with pytest.raises(InvalidTensorError, match=r"shape \(2, 3, 4\); expected \(1, 3, 4\)"):
        parse_decompress(decompress_request(units=[(1, 1)]), CODEC, LIMITS)


def test_a_model_that_takes_no_indexes_refuses_them() -> None:
    with pytest.raises(InvalidTensorError, match=r"^indexes is set"):
        parse_compress(
            coding_pb2.CompressRequest(
                bottleneck=tensor_to_message(np.zeros((5, 3), np.float32)),
                indexes=tensor_to_message(np.zeros((5, 3), np.uint8)),
            ),
            BATCHED,
            LIMITS,
        )
    with pytest.raises(InvalidTensorError, match=r"^indexes is set"):
        parse_decompress(decompress_request(codec=BATCHED), BATCHED, LIMITS)
    with pytest.raises(InvalidRequestError, match="indexes_crc32c has 2 entries; expected none"):
        parse_decompress(decompress_request(None, BATCHED, indexes_crc32c=[1, 2]), BATCHED, LIMITS)


@pytest.mark.parametrize("checksums", [[1], [1, 2, 3]])
def test_checksums_of_another_number_of_units_are_refused(checksums: list[int]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_decompress(decompress_request(indexes_crc32c=checksums), CODEC, LIMITS)
    assert caught.value.violations[0].field == "compressed.indexes_crc32c"


@pytest.mark.parametrize("codec", [CODEC, NUMBERED, BATCHED])
@pytest.mark.parametrize(
    "numbers",
    [
        runs((0, 1)),
        runs((0, 3)),
        runs((0, 2), (5, 0)),
        runs((0, 2**64 - 1), (0, 3)),
        runs((2**64 - 1, 1), (0, 1)),
        runs((2**59 // 9, 1), (0, 1)),
    ],
    ids=lambda value: str([(run.first, run.count) for run in value]),
)
def test_unit_numbers_are_as_many_as_units_and_within_an_array(
    codec: Codec, numbers: list[types_pb2.UnitNumbers]
) -> None:
    plane = PLANE if isinstance(codec, IndexedCodec) else None
    with pytest.raises(InvalidRequestError) as caught:
        parse_decompress(decompress_request(plane, codec, unit_numbers=numbers), codec, LIMITS)
    assert caught.value.violations[0].field == "unit_numbers"


def test_the_first_unit_numbers_those_after_it() -> None:
    indexes = parse_compress(compress_request(first_unit=7), NUMBERED, LIMITS).indexes
    assert indexes is not None
    assert indexes.unit_numbers.tolist() == [7, 8]
    last = 2**59 // 12 - 2
    assert parse_compress(compress_request(first_unit=last), NUMBERED, LIMITS).first_unit == last
    for first_unit in (last + 1, 2**64 - 1):
        with pytest.raises(InvalidRequestError, match=r"^first_unit reaches .* with units of 12 elements"):
            parse_compress(compress_request(first_unit=first_unit), NUMBERED, LIMITS)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=6))
def test_runs_say_the_numbers_one_by_one(pairs: list[tuple[int, int]]) -> None:
    expected = [number for first, count in pairs for number in range(first, first + count)]
    assert parse_unit_numbers(runs(*pairs), len(expected), 3).tolist() == expected


_TENSORS = st.builds(
    types_pb2.Tensor,
    dtype=st.sampled_from(list(types_pb2.DType.values())),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, -1, 2**62]), max_size=4) | st.just([2, 3, 4]),
    data=st.sampled_from([24, 48, 96]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
    | st.binary(max_size=30),
)


@given(
    indexes=_TENSORS,
    numbers=st.lists(st.builds(types_pb2.UnitNumbers, first=st.integers(0, 2**64 - 1)), max_size=3)
    | st.just(runs((3, 2))),
    checksums=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    codec=st.sampled_from([CODEC, NUMBERED]),
)
def test_any_indexes_are_rows_or_an_error(
    indexes: types_pb2.Tensor,
    numbers: list[types_pb2.UnitNumbers],
    checksums: list[int],
    codec: IndexedCodec,
) -> None:
    changed = decompress_request(None, codec, unit_numbers=numbers, indexes_crc32c=checksums)
    changed.indexes.CopyFrom(indexes)
    first = numbers[0].first if numbers else 0
    compress = coding_pb2.CompressRequest(
        bottleneck=tensor_to_message(VALUES), indexes=indexes, first_unit=first
    )
    parsers: tuple[Callable[[], UnitIndexes | None], ...] = (
        lambda: parse_compress(compress, codec, LIMITS).indexes,
        lambda: parse_decompress(changed, codec, LIMITS).indexes,
    )
    for parse in parsers:
        try:
            parsed = parse()
            assert parsed is not None
            rows = codec.rows_of(parsed.plane, parsed.unit_shape, parsed.unit_numbers)
        except (InvalidRequestError, InvalidTensorError, LimitExceededError):
            continue
        assert rows.row_index.min() >= 0
        assert rows.row_index.max() < len(codec.tables.cdf_offset)
        assert rows.row_index.size == 24


def test_a_power_law_model_fixes_no_axes_and_takes_no_indexes() -> None:
    codec = codec_of(PowerLawConfig(coding_rank=2), None)
    call = parse_compress(compress_request(None), codec, LIMITS)
    assert (call.batch_shape, call.broadcast_shape, call.indexes) == ((2,), (3, 4), None)
    decompress = parse_decompress(decompress_request(None, codec), codec, LIMITS)
    assert (decompress.unit_symbols, decompress.indexes) == (12, None)
    with pytest.raises(InvalidTensorError, match=r"^indexes is set"):
        parse_compress(compress_request(), codec, LIMITS)
    with pytest.raises(TablesMismatchError, match=r"tables 0{16}\.\.\., but model .* has none;"):
        parse_decompress(decompress_request(None, codec, tables_digest=bytes(32)), codec, LIMITS)
