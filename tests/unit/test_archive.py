"""Laws of compressed tensors: files and slices keep every bit string, and never hide damage."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import CompressedTensor, CorruptStringError, DataLossError, InvalidRequestError, RateReport
from entropyd.contract.integrity import BLOCK_BYTES, make_blocks
from entropyd.v1 import coding_pb2, types_pb2

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
STRINGS = st.binary(max_size=6) | st.binary(max_size=3).map(lambda string: string + b"\0\0")


def tensor_of(strings: list[bytes], batch_shape: tuple[int, ...]) -> CompressedTensor:
    payload, lengths = b"".join(strings), np.array([len(string) for string in strings], np.uint32)
    return CompressedTensor(
        "ab" * 32,
        b"\x07" * 32,
        "float32",
        batch_shape,
        (4, 1),
        payload,
        lengths,
        make_blocks(payload, lengths),
    )


@st.composite
def tensors(draw: st.DrawFn) -> CompressedTensor:
    shape = draw(SHAPES)
    units = int(np.prod(shape))
    return tensor_of(draw(st.lists(STRINGS, min_size=units, max_size=units)), shape)


SMALL = tensor_of([b"\x01\x02", b"", b"\x03\0"], (3,))


def same(one: CompressedTensor, other: CompressedTensor) -> bool:
    return one.to_message() == other.to_message()


def saved(tensor: CompressedTensor, folder: Path) -> bytes:
    path = folder / "x.entropyd"
    tensor.save(path)
    return path.read_bytes()


@given(tensors())
def test_a_file_restores_its_tensor(tensor: CompressedTensor) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.entropyd"
        tensor.save(str(path))
        restored = CompressedTensor.load(path)
    assert same(restored, tensor)
    assert restored.strings.shape == tensor.batch_shape
    assert restored.strings.tolist() == tensor.strings.tolist()


@given(tensors())
def test_a_message_restores_its_tensor(tensor: CompressedTensor) -> None:
    content = tensor.to_message().SerializeToString()
    assert same(CompressedTensor.from_message(types_pb2.CompressedTensor.FromString(content)), tensor)


def test_trailing_zero_bytes_of_a_string_are_kept() -> None:
    strings = [b"\0", b"a\0\0", b"\0\0\0"]
    assert tensor_of(strings, (3,)).strings.tolist() == strings


def test_every_changed_byte_of_a_file_is_noticed(tmp_path: Path) -> None:
    content = saved(SMALL, tmp_path)
    for position in range(len(content)):
        for change in (0x01, 0x10, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= change
            path = tmp_path / "damaged"
            path.write_bytes(damaged)
            with pytest.raises((DataLossError, InvalidRequestError)):
                CompressedTensor.load(path)


def test_every_cut_and_every_addition_is_noticed(tmp_path: Path) -> None:
    content = saved(SMALL, tmp_path)
    path = tmp_path / "damaged"
    for damaged in [*(content[:length] for length in range(len(content))), content + b"\0", content * 2]:
        path.write_bytes(damaged)
        with pytest.raises(DataLossError):
            CompressedTensor.load(path)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_file(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(b"\x89ENTR\r\n\x1a" + content)
        with pytest.raises((DataLossError, InvalidRequestError)):
            CompressedTensor.load(path)


def test_a_file_of_a_newer_version_says_so(tmp_path: Path) -> None:
    content = bytearray(saved(SMALL, tmp_path))
    content[8:12] = struct.pack("<I", 2)
    (tmp_path / "newer").write_bytes(content)
    with pytest.raises(InvalidRequestError, match=r"file version .* is 2; this version of entropyd knows 1"):
        CompressedTensor.load(tmp_path / "newer")


def test_a_file_that_is_not_there_is_the_callers_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CompressedTensor.load(tmp_path / "nothing")


def test_saving_replaces_the_file_whole(tmp_path: Path) -> None:
    other = tensor_of([b"zz"], (1,))
    saved(other, tmp_path)
    assert saved(SMALL, tmp_path) != saved(other, tmp_path)
    assert os.listdir(tmp_path) == ["x.entropyd"]  # noqa: PTH208 - hidden files count


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved(SMALL, tmp_path)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        tensor_of([b"zz"], (1,)).save(tmp_path / "x.entropyd")
    assert (tmp_path / "x.entropyd").read_bytes() == before
    assert os.listdir(tmp_path) == ["x.entropyd"]  # noqa: PTH208


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


def test_the_layout_of_a_file_is_the_documented_one(tmp_path: Path) -> None:
    content = saved(SMALL, tmp_path)
    message = SMALL.to_message().SerializeToString()
    fields = [b"\x89ENTR\r\n\x1a", struct.pack("<I", 1), struct.pack("<Q", len(message)), message]
    ends = np.cumsum([0, *(len(field) for field in fields)]).tolist()
    assert [content[start:end] for start, end in pairwise(ends)] == fields
    assert len(content) == ends[-1] + 4
