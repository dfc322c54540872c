"""Laws of compressed tensors: messages and slices keep every bit string, and never hide damage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import CompressedTensor, CorruptStringError, InvalidRequestError, RateReport
from entropyd.contract.integrity import BLOCK_BYTES
from entropyd.v1 import coding_pb2, types_pb2
from tests.support.archive_cases import SMALL, same, tensor_of, tensors


@given(tensors())
def test_a_message_restores_its_tensor(tensor: CompressedTensor) -> None:
    content = tensor.to_message().SerializeToString()
    assert same(CompressedTensor.from_message(types_pb2.CompressedTensor.FromString(content)), tensor)


def test_trailing_zero_bytes_of_a_string_are_kept() -> None:
    strings = [b"\0", b"a\0\0", b"\0\0\0"]
    assert tensor_of(strings, (3,)).strings.tolist() == strings


@given(tensors().filter(lambda tensor: len(tensor.batch_shape) > 0), st.data())
def test_slicing_selects_strings_as_numpy_does(tensor: CompressedTensor, data: st.DataObject) -> None:
    key = data.draw(hnp.basic_indices(tensor.batch_shape, allow_newaxis=True))
    expected = tensor.strings[key]
    part = tensor[key]
    assert part.strings.shape == np.shape(expected)
    assert part.strings.tolist() == (expected.tolist() if isinstance(expected, np.ndarray) else expected)
    assert (part.model_id, part.tables_digest, part.dtype) == (
        tensor.model_id,
        tensor.tables_digest,
        tensor.dtype,
    )
    assert part.broadcast_shape == tensor.broadcast_shape
    assert same(CompressedTensor.from_message(part.to_message()), part)


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(st.integers(-3, 2), max_size=5))
def test_masks_and_lists_of_units_select_as_numpy_does(mask: list[bool], units: list[int]) -> None:
    for key in (np.array(mask), np.array(units, np.int64)):
        assert SMALL[key].strings.tolist() == SMALL.strings[key].tolist()


@pytest.mark.parametrize("key", [3, -4, (0, 0), "a", 1.5])
def test_a_key_that_numpy_refuses_is_refused(key: Any) -> None:
    with pytest.raises(IndexError):
        SMALL[key]


def test_the_length_is_that_of_the_first_batch_axis() -> None:
    assert len(SMALL) == 3
    with pytest.raises(TypeError):
        len(tensor_of([b"a"], ()))


def test_slicing_a_damaged_block_names_its_units_and_others_are_still_good() -> None:
    good = tensor_of([b"a" * BLOCK_BYTES, b"b" * BLOCK_BYTES, b"c", b"d"], (2, 2))
    payload = bytearray(good.payload)
    payload[-1] ^= 1
    message = good.to_message()
    message.payload = bytes(payload)
    damaged = CompressedTensor.from_message(message)
    assert damaged[0].strings.tolist() == good[0].strings.tolist()
    with pytest.raises(CorruptStringError) as caught:
        damaged[1]
    assert caught.value.units == (2, 3)
    with pytest.raises(CorruptStringError) as caught:
        damaged[:, 1]
    assert caught.value.units == (3,)


CONTRADICTIONS: list[dict[str, Any]] = [
    {"format_version": 0},
    {"format_version": 2},
    {"dtype": types_pb2.D_TYPE_UNSPECIFIED},
    {"dtype": 99},
    {"batch_shape": [2]},
    {"batch_shape": [-1, -3]},
    {"batch_shape": [3] + [1] * 32},
    {"batch_shape": []},
    {"broadcast_shape": [-4]},
    {"payload": b"\x01\x02\x03"},
    {"payload": b"\x01\x02\x03\0\0"},
    {"lengths": [2, 0, 3]},
    {"lengths": [2, 0, 2, 0]},
    {"lengths": []},
    {"blocks": [types_pb2.Block(units=2)]},
    {"blocks": [types_pb2.Block(units=3), types_pb2.Block(units=1)]},
]


@pytest.mark.parametrize("change", CONTRADICTIONS, ids=str)
def test_a_message_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    message = SMALL.to_message()
    for name in change:
        message.ClearField(name)
    message.MergeFrom(types_pb2.CompressedTensor(**change))
    with pytest.raises(InvalidRequestError):
        CompressedTensor.from_message(message)


def test_a_message_may_come_without_checksums() -> None:
    message = SMALL.to_message()
    message.ClearField("blocks")
    assert CompressedTensor.from_message(message).strings.tolist() == SMALL.strings.tolist()


@given(
    st.builds(
        types_pb2.CompressedTensor,
        format_version=st.just(1),
        dtype=st.just(types_pb2.D_TYPE_FLOAT32),
        batch_shape=st.lists(st.integers(-2, 2) | st.just(2**62), max_size=3),
        broadcast_shape=st.lists(st.integers(-2, 2) | st.just(2**62), max_size=3),
        payload=st.binary(max_size=3),
        lengths=st.lists(st.integers(0, 2), max_size=4),
        blocks=st.lists(st.builds(types_pb2.Block, units=st.integers(0, 2)), max_size=2),
    )
)
def test_any_message_is_a_whole_tensor_or_refused(message: types_pb2.CompressedTensor) -> None:
    try:
        tensor = CompressedTensor.from_message(message)
    except InvalidRequestError:
        return
    assert tensor.strings.shape == tensor.batch_shape
    assert b"".join(tensor.strings.reshape(-1)) == tensor.payload
    assert tensor.to_message() == message


def test_a_rate_is_bits_per_symbol_and_zero_without_symbols() -> None:
    rate = coding_pb2.RateReport(symbols=16, escaped_symbols=1, uncompressed_bytes=64, compressed_bytes=4)
    tensor = CompressedTensor.from_message(SMALL.to_message(), rate)
    assert tensor.rate == RateReport(16, 1, 64, 4)
    assert tensor.rate.bits_per_symbol == 2.0
    assert RateReport(0, 0, 0, 0).bits_per_symbol == 0.0
