"""Laws of request parsing: what is let in fits its codec and the limits; all else is refused by field."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd.contract.errors import (
    EntropydError,
    InvalidRequestError,
    InvalidTensorError,
    LimitExceededError,
    TablesMismatchError,
)
from entropyd.contract.integrity import make_blocks
from entropyd.contract.wire import dtype_number, tensor_to_message
from entropyd.v1 import coding_pb2, types_pb2
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.limits import Limits
from entropyd_server.models.cache import checked_model_id
from entropyd_server.rpc.requests.coding import (
    DecompressCall,
    decompress_source,
    parse_compress,
    parse_decompress,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMITS = Limits(max_message_bytes=4096, max_model_bytes=4096, max_build_seconds=1, max_units=64)
MODEL_ID = "ab" * 32
HUGE_BYTES = 2**20
DTYPES: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": np.uint16,
    "float32": np.float32,
    "float64": np.float64,
}


def make_codec(
    prior_shape: tuple[int, ...] = (3,), coding_rank: int = 2, dtype: str = "float32"
) -> UniversalBatchedCodec:
    rows = int(np.prod(prior_shape))
    return UniversalBatchedCodec(
        model_id=MODEL_ID,
        tables=CodingTables.parse([-4, 0, 5, 11, 16] * rows, [-1] * rows),
        prior_shape=prior_shape,
        coding_rank=coding_rank,
        bottleneck_dtype=dtype,
        num_noise_levels=1,
    )


CODEC = make_codec()


def compress_request(array: npt.NDArray[Any], dtype: str | None = None) -> coding_pb2.CompressRequest:
    return coding_pb2.CompressRequest(model_id=MODEL_ID, bottleneck=tensor_to_message(array, dtype))


def decompress_request(
    strings: Sequence[bytes] = (b"ab", b"", b"c\0", b"d"),
    batch_shape: Sequence[int] = (2, 2),
    units: Sequence[tuple[int, int]] = (),
    **changes: Any,
) -> coding_pb2.DecompressRequest:
    """A good request for CODEC, with fields of its CompressedTensor changed."""
    payload, lengths = b"".join(strings), np.array([len(string) for string in strings], np.uint32)
    fields: dict[str, Any] = {
        "format_version": 1,
        "model_id": MODEL_ID,
        "tables_digest": CODEC.tables.digest,
        "dtype": types_pb2.D_TYPE_FLOAT32,
        "batch_shape": batch_shape,
        "broadcast_shape": [5],
        "payload": payload,
        "lengths": lengths.tolist(),
        "blocks": make_blocks(payload, lengths),
        **changes,
    }
    return coding_pb2.DecompressRequest(
        compressed=types_pb2.CompressedTensor(**fields),
        units=[coding_pb2.UnitRange(start=start, count=count) for start, count in units],
    )


def bare_request(**fields: Any) -> coding_pb2.DecompressRequest:
    return coding_pb2.DecompressRequest(bit_strings=types_pb2.BitStrings(model_id=MODEL_ID, **fields))


def refusal(parse: Callable[[], object]) -> EntropydError:
    """The error of a parser that must not allocate before it refuses."""
    tracemalloc.start()
    try:
        with pytest.raises(EntropydError) as caught:
            parse()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < HUGE_BYTES
    return caught.value


def refused_compress(
    request: coding_pb2.CompressRequest, codec: UniversalBatchedCodec = CODEC
) -> EntropydError:
    return refusal(lambda: parse_compress(request, codec, LIMITS))


def refused_decompress(
    request: coding_pb2.DecompressRequest, codec: UniversalBatchedCodec = CODEC
) -> EntropydError:
    return refusal(lambda: parse_decompress(request, codec, LIMITS))


def field_of(error: EntropydError) -> str:
    (violation,) = error.violations
    return violation.field


def strings_of(call: DecompressCall) -> list[bytes]:
    ends = np.cumsum(call.strings.lengths, dtype=np.int64)
    return [
        call.strings.payload[end - length : end]
        for end, length in zip(ends, call.strings.lengths, strict=True)
    ]


@st.composite
def compressible(draw: st.DrawFn) -> tuple[UniversalBatchedCodec, npt.NDArray[Any]]:
    """A codec and an array for it, empty ones and ones to be repeated along prior_shape included."""
    prior_shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    broadcast_shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2))
    batch_shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    codec = make_codec(prior_shape, len(broadcast_shape) + len(prior_shape), dtype)
    innermost = tuple(draw(st.sampled_from([1, axis])) for axis in prior_shape)
    shape = batch_shape + broadcast_shape + innermost
    return codec, np.arange(np.prod(shape)).astype(DTYPES[dtype]).reshape(shape)


@given(compressible())
def test_an_array_is_cut_into_its_coding_units(drawn: tuple[UniversalBatchedCodec, npt.NDArray[Any]]) -> None:
    codec, array = drawn
    call = parse_compress(compress_request(array, codec.bottleneck_dtype), codec, LIMITS)
    whole_shape = array.shape[: array.ndim - len(codec.prior_shape)] + codec.prior_shape
    assert call.batch_shape + call.broadcast_shape + codec.prior_shape == whole_shape
    assert len(call.broadcast_shape) == codec.coding_rank - len(codec.prior_shape)
    expected = np.broadcast_to(array, whole_shape).reshape(call.values.shape)
    assert np.array_equal(call.values, expected)
    assert len(call.values) == np.prod(call.batch_shape)
    assert call.values.flags.c_contiguous
    assert call.values.shape[1] == codec.rows(call.broadcast_shape).symbols


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.zeros((5, 3), np.float64), "bottleneck.dtype"),
        (np.zeros((5, 3), np.uint16), "bottleneck.dtype"),
        (np.zeros(3, np.float32), "bottleneck"),
        (np.float32(0).reshape(()), "bottleneck"),
        (np.zeros((5, 4), np.float32), "bottleneck.shape[1]"),
        (np.zeros((2, 5, 2), np.float32), "bottleneck.shape[2]"),
        (np.zeros((5, 0), np.float32), "bottleneck.shape[1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype} {value.shape}",
)
def test_an_array_that_does_not_fit_is_refused_by_field(array: npt.NDArray[Any], field: str) -> None:
    error = refused_compress(compress_request(array))
    assert isinstance(error, InvalidTensorError)
    assert field_of(error) == field


def test_a_rank_that_is_too_low_is_told_with_the_rank_that_is_needed() -> None:
    error = refused_compress(compress_request(np.zeros(3, np.float32)))
    assert str(error) == "bottleneck has rank 1; coding_rank 2 needs at least 2"


@pytest.mark.parametrize(
    ("shape", "data_bytes", "limit"),
    [
        ([65, 1, 3], 780, "max_units"),
        ([0, 2**40, 3], 0, "max_message_bytes"),
        ([1, 1000, 1], 4000, "max_message_bytes"),
        ([0, 2**58, 1], 0, "max_message_bytes"),
        ([2**40, 0, 1], 0, "max_units"),
        ([2**40, 0, 0, 3], 0, "max_message_bytes"),
        ([0, 2**40, 0, 3], 0, "max_message_bytes"),
    ],
)
def test_an_array_above_a_limit_is_refused_before_it_is_made(
    shape: list[int], data_bytes: int, limit: str
) -> None:
    tensor = types_pb2.Tensor(dtype=types_pb2.D_TYPE_FLOAT32, shape=shape, data=bytes(data_bytes))
    error = refused_compress(coding_pb2.CompressRequest(bottleneck=tensor))
    assert isinstance(error, LimitExceededError)
    assert error.metadata == {"limit": limit, "value": str(getattr(LIMITS, limit))}


@given(
    st.lists(st.integers(-1, 4) | st.integers(0, 2**63 - 1), max_size=34),
    st.integers(0, 12),
    st.integers(0, 6),
)
def test_any_bottleneck_is_let_in_whole_or_refused(shape: list[int], elements: int, dtype: int) -> None:
    data = bytes(4 * elements)
    tensor = types_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        call = parse_compress(coding_pb2.CompressRequest(bottleneck=tensor), CODEC, LIMITS)
    except (InvalidTensorError, LimitExceededError):
        return
    assert call.values.nbytes <= LIMITS.max_message_bytes
    assert len(call.values) <= LIMITS.max_units


def test_a_good_request_is_read_as_it_is() -> None:
    call = parse_decompress(decompress_request(), CODEC, LIMITS)
    assert strings_of(call) == [b"ab", b"", b"c\0", b"d"]
    assert call.units.tolist() == [0, 1, 2, 3]
    assert not call.damaged.any()
    assert (call.batch_shape, call.broadcast_shape, call.unit_symbols) == ((2, 2), (5,), 5 * 3)
    assert not call.skip_errors


def test_bare_strings_need_no_digest() -> None:
    request = bare_request(batch_shape=[2], broadcast_shape=[5], payload=b"abc", lengths=[1, 2])
    call = parse_decompress(request, CODEC, LIMITS)
    assert strings_of(call) == [b"a", b"bc"]
    assert not call.damaged.any()


def test_an_empty_batch_and_an_empty_unit_are_let_in() -> None:
    empty = parse_decompress(decompress_request([], [0]), CODEC, LIMITS)
    assert (len(empty.units), empty.strings.lengths.tolist(), empty.strings.payload) == (0, [], b"")
    units = parse_decompress(decompress_request([b"", b""], [2], broadcast_shape=[0]), CODEC, LIMITS)
    assert (units.unit_symbols, units.strings.lengths.tolist()) == (0, [0, 0])


REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"format_version": 0}, "compressed.format_version"),
    ({"format_version": 2}, "compressed.format_version"),
    ({"dtype": types_pb2.D_TYPE_FLOAT64}, "compressed.dtype"),
    ({"dtype": types_pb2.D_TYPE_UNSPECIFIED}, "compressed.dtype"),
    ({"batch_shape": [-1, -4]}, "batch_shape"),
    ({"batch_shape": [1] * 33}, "batch_shape"),
    ({"batch_shape": [4] + [1] * 30}, "batch_shape"),
    ({"batch_shape": [2**62, 0], "lengths": [], "payload": b""}, "batch_shape"),
    ({"broadcast_shape": []}, "broadcast_shape"),
    ({"broadcast_shape": [5, 5]}, "broadcast_shape"),
    ({"broadcast_shape": [-5]}, "broadcast_shape"),
    ({"broadcast_shape": [2**62]}, "broadcast_shape"),
    ({"batch_shape": [5]}, "lengths"),
    ({"batch_shape": []}, "lengths"),
    ({"batch_shape": [2**40]}, "lengths"),
    ({"lengths": []}, "lengths"),
    ({"lengths": [2, 0, 2, 2]}, "payload"),
    ({"lengths": [2**32 - 1] * 4}, "payload"),
    ({"payload": b""}, "payload"),
    ({"blocks": [types_pb2.Block(units=3)]}, "compressed.blocks"),
    ({"blocks": [types_pb2.Block(units=5)]}, "compressed.blocks"),
    ({"blocks": [types_pb2.Block(units=4), types_pb2.Block(units=0)]}, "compressed.blocks"),
    ({"blocks": [types_pb2.Block(units=2**32 - 1)] * 9}, "compressed.blocks"),
    ({"units": [(0, 5)]}, "units[0]"),
    ({"units": [(0, 1), (4, 1)]}, "units[1]"),
    ({"units": [(5, 0)]}, "units[0]"),
    ({"units": [(2**64 - 1, 2)]}, "units[0]"),
    ({"units": [(1, 2**64 - 1)]}, "units[0]"),
]


@pytest.mark.parametrize(("changes", "field"), REJECTED, ids=str)
def test_strings_that_contradict_themselves_are_refused_by_field(changes: dict[str, Any], field: str) -> None:
    error = refused_decompress(decompress_request(**changes))
    assert isinstance(error, InvalidRequestError)
    assert field_of(error) == field


def test_a_request_without_strings_is_refused_by_field() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decompress_source(coding_pb2.DecompressRequest())
    assert field_of(caught.value) == "source"


@pytest.mark.parametrize("policy", [-1, 3, 99])
def test_an_unknown_error_policy_is_refused_by_field(policy: int) -> None:
    request = decompress_request()
    request.error_policy = policy  # type: ignore[assignment]
    error = refused_decompress(request)
    assert isinstance(error, InvalidRequestError)
    assert field_of(error) == "error_policy"


@pytest.mark.parametrize(
    ("policy", "skip"),
    [
        (coding_pb2.ERROR_POLICY_UNSPECIFIED, False),
        (coding_pb2.ERROR_POLICY_FAIL, False),
        (coding_pb2.ERROR_POLICY_SKIP, True),
    ],
)
def test_errors_are_skipped_only_on_request(policy: coding_pb2.ErrorPolicy, skip: bool) -> None:
    request = decompress_request()
    request.error_policy = policy
    assert parse_decompress(request, CODEC, LIMITS).skip_errors is skip


@pytest.mark.parametrize("digest", [b"", b"\0" * 32, CODEC.tables.digest[:-1]])
def test_strings_made_with_other_tables_are_refused(digest: bytes) -> None:
    error = refused_decompress(decompress_request(tables_digest=digest))
    assert isinstance(error, TablesMismatchError)
    assert error.metadata == {"model_id": MODEL_ID, "tables_digest": CODEC.tables.digest.hex()}


BOMBS: list[tuple[dict[str, Any], str]] = [
    ({"broadcast_shape": [2**40]}, "max_message_bytes"),
    ({"broadcast_shape": [400]}, "max_message_bytes"),
    ({"strings": [], "batch_shape": [0], "broadcast_shape": [2**40]}, "max_message_bytes"),
    ({"strings": [], "batch_shape": [0, 2**40]}, "max_message_bytes"),
    ({"strings": [b""] * 65, "batch_shape": [65], "broadcast_shape": [0]}, "max_units"),
    ({"units": [(0, 4)] * 17}, "max_units"),
    ({"units": [(0, 0)] * 65}, "max_units"),
    ({"units": [(0, 4)] * 16, "broadcast_shape": [6]}, "max_message_bytes"),
    ({"strings": [b"x" * 2000], "batch_shape": [1], "units": [(0, 1)] * 3}, "max_message_bytes"),
]


@pytest.mark.parametrize(("changes", "limit"), BOMBS, ids=lambda value: str(value)[:60])
def test_a_small_request_for_a_large_array_is_refused_before_it_is_made(
    changes: dict[str, Any], limit: str
) -> None:
    error = refused_decompress(decompress_request(**changes))
    assert isinstance(error, LimitExceededError)
    assert error.metadata == {"limit": limit, "value": str(getattr(LIMITS, limit))}


def test_a_rank_above_the_limit_with_the_coding_axes_is_refused() -> None:
    error = refused_decompress(decompress_request([b"a"], [1] * 31))
    assert isinstance(error, InvalidRequestError)
    assert field_of(error) == "batch_shape"
    assert parse_decompress(decompress_request([b"a"], [1] * 30), CODEC, LIMITS).unit_symbols == 15


@given(
    st.lists(st.binary(max_size=4), max_size=8),
    st.data(),
)
def test_selected_units_are_the_strings_at_their_indexes(strings: list[bytes], data: st.DataObject) -> None:
    starts = st.integers(0, len(strings))
    runs = st.builds(lambda a, b: (min(a, b), abs(a - b)), starts, starts)
    units = data.draw(st.lists(runs, min_size=1, max_size=4))
    call = parse_decompress(
        decompress_request(strings, [len(strings)], units, broadcast_shape=[1]), CODEC, LIMITS
    )
    expected = [unit for start, count in units for unit in range(start, start + count)]
    assert call.units.tolist() == expected
    assert strings_of(call) == [strings[unit] for unit in expected]
    assert call.batch_shape == (len(expected),)
    assert call.unit_symbols == 3


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_damage_follows_the_units_into_a_selection(strings: list[bytes], data: st.DataObject) -> None:
    blocks = [
        block for string in strings for block in make_blocks(string, np.array([len(string)], np.uint32))
    ]
    bad = data.draw(st.sets(st.integers(0, len(strings) - 1)))
    for unit in bad:
        blocks[unit].crc32c ^= 1
    order = data.draw(st.lists(st.integers(0, len(strings) - 1), min_size=1, max_size=8))
    request = decompress_request(
        strings, [len(strings)], [(unit, 1) for unit in order], blocks=blocks, broadcast_shape=[1]
    )
    call = parse_decompress(request, CODEC, LIMITS)
    assert call.damaged.tolist() == [unit in bad for unit in order]


@given(
    st.builds(
        types_pb2.CompressedTensor,
        format_version=st.just(1),
        tables_digest=st.just(CODEC.tables.digest),
        dtype=st.just(dtype_number("float32")),
        batch_shape=st.lists(st.integers(-1, 3) | st.integers(0, 2**63 - 1), max_size=3),
        broadcast_shape=st.lists(st.integers(-1, 3) | st.integers(0, 2**63 - 1), min_size=1, max_size=1),
        payload=st.binary(max_size=3),
        lengths=st.lists(st.integers(0, 2), max_size=4),
        blocks=st.lists(st.builds(types_pb2.Block, units=st.integers(0, 2)), max_size=2),
    ),
    st.lists(st.builds(coding_pb2.UnitRange, start=st.integers(0, 3), count=st.integers(0, 70)), max_size=2),
)
def test_any_strings_are_let_in_whole_or_refused(
    compressed: types_pb2.CompressedTensor, units: list[coding_pb2.UnitRange]
) -> None:
    request = coding_pb2.DecompressRequest(compressed=compressed, units=units)
    try:
        call = parse_decompress(request, CODEC, LIMITS)
    except (InvalidRequestError, LimitExceededError):
        return
    decoded = CODEC.decode(call.strings.payload, call.strings.lengths, CODEC.rows(call.broadcast_shape))
    shape = call.batch_shape + call.broadcast_shape + CODEC.prior_shape
    assert decoded.values.reshape(shape).nbytes <= LIMITS.max_message_bytes
    assert len(call.units) == len(call.damaged) == len(call.strings.lengths) <= LIMITS.max_units


@pytest.mark.parametrize(
    "model_id", ["", "ab", "AB" * 32, "ab" * 33, "g" * 64, "ab" * 32 + "\n", "../" + "a" * 61]
)
def test_a_model_id_is_64_lower_case_hexadecimal_digits(model_id: str) -> None:
    assert checked_model_id(MODEL_ID) == MODEL_ID
    with pytest.raises(InvalidRequestError) as caught:
        checked_model_id(model_id)
    assert field_of(caught.value) == "model_id"
