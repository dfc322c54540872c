"""Laws of the wire: arrays and shapes survive it, and what does not fit together is refused by field."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.wire import (
    MAX_RANK,
    array_from_message,
    dtype_name,
    dtype_number,
    shape_from_message,
    tensor_to_message,
)
from entropyd.v1 import types_pb2

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
ITEM_BYTES |= {"int8": 1, "int16": 2, "int32": 4, "uint8": 1, "uint16": 2}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays(names: list[str]) -> st.SearchStrategy[npt.NDArray[Any]]:
    """Arrays of every shape, byte order and bit pattern, NaN payloads included."""
    dtypes = st.sampled_from([np.dtype(order + name) for name in names for order in "<>"])
    return dtypes.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES, elements=_elements(dtype)))


def _elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    return hnp.from_dtype(dtype)


def read(message: types_pb2.Tensor) -> tuple[str, npt.NDArray[Any]]:
    return array_from_message(types_pb2.Tensor.FromString(message.SerializeToString()), "x")


def same_bits(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


@given(arrays(["f2", "f4", "f8", "i1", "i2", "i4", "u1", "u2"]))
def test_an_array_survives_the_wire_bit_by_bit(array: npt.NDArray[Any]) -> None:
    name, restored = read(tensor_to_message(array))
    assert name == array.dtype.name == restored.dtype.name
    assert same_bits(restored, array.astype(array.dtype.newbyteorder("<")))


@given(arrays(["f4", "i4"]).filter(lambda array: array.ndim > 0))
def test_an_array_need_not_be_contiguous(array: npt.NDArray[Any]) -> None:
    for view in (array.T, array[::-1], array[..., ::2], np.broadcast_to(array[:1], array[:1].shape)):
        _, restored = read(tensor_to_message(view))
        assert same_bits(restored, view.astype(array.dtype.newbyteorder("<")))


@given(hnp.arrays(np.uint16, SHAPES))
def test_bfloat16_is_the_same_as_ml_dtypes_or_as_bit_patterns(bits: npt.NDArray[np.uint16]) -> None:
    typed = bits.view(ml_dtypes.bfloat16)
    message = tensor_to_message(typed)
    assert message == tensor_to_message(bits, "bfloat16")
    assert message == tensor_to_message(bits.astype(">u2"), "bfloat16")
    name, restored = read(message)
    assert name == "bfloat16"
    assert restored.dtype == np.uint16
    assert same_bits(restored, bits)


def test_a_bfloat16_array_need_not_be_contiguous() -> None:
    typed = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16)
    _, restored = read(tensor_to_message(typed.T[::2]))
    assert same_bits(restored, typed.view(np.uint16).T[::2])


@given(arrays(["f4"]))
def test_an_array_read_from_a_message_is_not_writable(array: npt.NDArray[Any]) -> None:
    _, restored = read(tensor_to_message(array))
    assert not restored.flags.writeable


def test_bytes_are_little_endian_in_row_major_order() -> None:
    message = tensor_to_message(np.array([[1, 2], [3, 4]], ">i4").T)
    assert message.data == b"".join(value.to_bytes(4, "little") for value in (1, 3, 2, 4))
    assert message.shape == [2, 2]


@pytest.mark.parametrize("name", ITEM_BYTES)
def test_a_dtype_has_one_number_and_one_name(name: str) -> None:
    assert dtype_name(dtype_number(name)) == name


def test_unknown_numbers_have_no_name() -> None:
    assert {dtype_name(number) for number in (types_pb2.D_TYPE_UNSPECIFIED, -1, 10, 99)} == {None}


@pytest.mark.parametrize("dtype", ["uint32", "int64", "bool", "complex64", "O", "U3"])
def test_an_array_of_another_dtype_is_refused(dtype: str) -> None:
    with pytest.raises(InvalidTensorError, match=r"tensor has dtype \w+; expected one of float16"):
        tensor_to_message(np.zeros(2, dtype))


@given(
    st.integers(-1, 10),
    st.lists(st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1), max_size=MAX_RANK + 1),
    st.binary(max_size=32),
)
def test_any_tensor_message_is_read_whole_or_refused_by_field(
    dtype: int, shape: list[int], data: bytes
) -> None:
    message = types_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        name, array = array_from_message(message, "bottleneck")
    except InvalidTensorError as error:
        (violation,) = error.violations
        assert violation.field in {"bottleneck.dtype", "bottleneck.shape", "bottleneck.data"}
    else:
        assert array.shape == tuple(shape)
        assert array.nbytes == len(data)
        assert tensor_to_message(array, name) == message


@given(st.sampled_from(sorted(ITEM_BYTES)), st.lists(st.integers(0, 3), max_size=4), st.integers(-9, 9))
def test_data_of_another_length_than_the_shape_says_is_refused(
    dtype: str, shape: list[int], excess_bytes: int
) -> None:
    expected_bytes = int(np.prod(shape)) * ITEM_BYTES[dtype]
    data = bytes(max(expected_bytes + excess_bytes, 0))
    message = types_pb2.Tensor(dtype=dtype_number(dtype), shape=shape, data=data)
    if len(data) == expected_bytes:
        assert array_from_message(message, "x")[1].nbytes == expected_bytes
        return
    with pytest.raises(InvalidTensorError) as caught:
        array_from_message(message, "x")
    assert [violation.field for violation in caught.value.violations] == ["x.data"]


@pytest.mark.parametrize(
    "shape",
    [[-1], [2, -3], [1] * (MAX_RANK + 1), [2**62, 0], [2**31, 2**31, 0], [2**63 - 1] * 32, [0, 2**60]],
)
def test_a_shape_that_no_array_can_have_is_refused(shape: list[int]) -> None:
    with pytest.raises(InvalidTensorError) as caught:
        shape_from_message(shape, "x.shape")
    assert [violation.field for violation in caught.value.violations] == ["x.shape"]


@given(st.lists(st.integers(0, 2), max_size=MAX_RANK))
def test_a_shape_is_read_as_it_is(shape: list[int]) -> None:
    assert shape_from_message(shape, "x") == tuple(shape)
