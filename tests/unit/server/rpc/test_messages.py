"""Laws of reading: a message is read as it is, in memory that its bytes are worth; all else is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract import large_fields
from entropyd.contract.errors import InvalidRequestError, LimitExceededError
from entropyd.contract.large_fields import header
from entropyd.contract.wire import array_from_message
from entropyd.v1 import coding_pb2, model_pb2, types_pb2
from entropyd_server.limits import MAX_FIELDS
from entropyd_server.rpc import messages
from entropyd_server.rpc.messages import read_message

REQUEST = coding_pb2.DecompressRequest(
    compressed=types_pb2.CompressedTensor(
        batch_shape=[2], lengths=[1, 300], payload=b"x" * 301, blocks=[types_pb2.Block(units=2)]
    ),
    units=[coding_pb2.UnitRange(start=0, count=2)] * 3,
)


@given(st.binary(max_size=40) | st.binary(max_size=4).map(lambda tail: REQUEST.SerializeToString() + tail))
def test_bytes_are_read_as_protobuf_reads_them_or_are_an_error_of_ours(data: bytes) -> None:
    try:
        expected = coding_pb2.DecompressRequest.FromString(data)
    except DecodeError:
        with pytest.raises(InvalidRequestError, match=r"is no entropyd.v1.DecompressRequest"):
            read_message(coding_pb2.DecompressRequest, data)
    else:
        assert read_message(coding_pb2.DecompressRequest, data) == expected


@given(data=st.binary(max_size=200))
def test_counting_ends_whatever_the_bytes(data: bytes) -> None:
    assert messages._count_fields(data, type(REQUEST)) <= len(data)


def test_fields_are_counted_where_messages_hold_messages() -> None:
    # compressed and three ranges; in compressed batch_shape, payload, lengths and a block.
    assert messages._count_fields(REQUEST.SerializeToString(), type(REQUEST)) == 4 + 4


def nested(inner: bytes) -> bytes:
    """`inner` as field 1 of a message, so often that each holder stays small."""
    return b"".join(b"\x0a" + bytes([len(inner)]) + inner for _ in range(MAX_FIELDS // 10))


@pytest.mark.parametrize(
    ("message_type", "data"),
    [
        (coding_pb2.DecompressRequest, b"\x1a\0" * (MAX_FIELDS + 1)),  # units
        (coding_pb2.DecompressRequest, nested(b"\x4a\0" * 12)),  # compressed.blocks, merged
        (model_pb2.SetWeightsRequest, b"\x12\0" * (MAX_FIELDS + 1)),  # weights
        (coding_pb2.CompressRequest, b"\x78\0" * (MAX_FIELDS + 1)),  # a field that nobody knows
    ],
)
def test_a_message_that_swells_when_it_is_read_is_refused_before(
    message_type: type[coding_pb2.DecompressRequest], data: bytes
) -> None:
    with pytest.raises(LimitExceededError) as caught:
        read_message(message_type, data)
    assert caught.value.metadata == {"limit": "max_fields", "value": str(MAX_FIELDS)}


def test_the_largest_selection_of_units_is_read() -> None:
    data = coding_pb2.DecompressRequest(
        units=[coding_pb2.UnitRange(start=1 << 20, count=1)] * (1 << 20)
    ).SerializeToString()
    assert len(read_message(coding_pb2.DecompressRequest, data).units) == 1 << 20


def test_bytes_that_are_no_message_are_said_to_be_none() -> None:
    with pytest.raises(InvalidRequestError, match=r"is no entropyd\.v1\.CompressRequest"):
        read_message(coding_pb2.CompressRequest, b"\xff")


def delimited(number: int, value: bytes) -> bytes:
    return header(number, len(value)) + value


# Fields of a Tensor and of a CompressRequest: its own, some that nobody knows, and what is no field.
_ODD = st.sampled_from(
    [b"\x78\x01", b"\x7a\x02ab", b"\x7b\x7c", b"\x79" + bytes(8), b"\x7d" + bytes(4), b"\xff"]
)
_TENSOR = st.lists(
    st.one_of(
        st.just(b"\x08\x03"),
        st.just(delimited(2, b"\x02\x01")),
        st.binary(max_size=20).map(lambda elements: delimited(3, elements)),
        st.just(b"\x18\x05"),  # its data as a number, which is not its data
        _ODD,
    ),
    max_size=4,
).map(b"".join)
_REQUEST = st.lists(
    st.one_of(
        st.just(delimited(1, b"model")),
        st.just(delimited(1, b"\xff")),  # no text
        _TENSOR.map(lambda tensor: delimited(2, tensor)),
        _TENSOR.map(lambda tensor: delimited(2, tensor)[:-1]),
        _TENSOR.map(lambda tensor: delimited(4, tensor)),
        st.just(b"\x18\x07"),
        _ODD,
    ),
    max_size=5,
).map(b"".join)


@given(data=_REQUEST)
def test_a_request_whose_arrays_stay_where_they_are_reads_as_protobuf_reads_it(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_fields, "_LARGE_BYTES", -1)
        try:
            expected = coding_pb2.CompressRequest.FromString(data)
        except DecodeError:
            with pytest.raises(InvalidRequestError):
                read_message(coding_pb2.CompressRequest, data)
            return
        around = delimited(1, b"number 7") + delimited(2, data)
        stream = read_message(coding_pb2.CompressStreamRequest, around)
        assert stream.request_id == "number 7"
        for found in (read_message(coding_pb2.CompressRequest, data), stream.request):
            assert (found.model_id, found.first_unit) == (expected.model_id, expected.first_unit)
            assert found.HasField("indexes") == expected.HasField("indexes")
            for tensor, wanted in (
                (found.bottleneck, expected.bottleneck),
                (found.indexes, expected.indexes),
            ):
                assert (tensor.dtype, tensor.shape) == (wanted.dtype, wanted.shape)
                assert bytes(tensor.data) == wanted.data


@pytest.mark.parametrize("indexes_bytes", [0, 10, 1 << 18])
def test_a_large_array_is_not_copied(indexes_bytes: int) -> None:
    elements = np.random.default_rng(0).normal(size=(3, 100, 200)).astype(np.float32)
    tensor = types_pb2.Tensor(dtype=types_pb2.D_TYPE_FLOAT32, shape=elements.shape, data=elements.tobytes())
    request = coding_pb2.CompressRequest(model_id="a", bottleneck=tensor, first_unit=5)
    if indexes_bytes:
        request.indexes.data = b"a" * indexes_bytes
    data = request.SerializeToString()
    found = read_message(coding_pb2.CompressRequest, data)
    name, array = array_from_message(found.bottleneck, "bottleneck")
    assert name == "float32"
    np.testing.assert_array_equal(array, elements)
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert found.HasField("indexes") == bool(indexes_bytes)
    assert bytes(found.indexes.data) == b"a" * indexes_bytes


def test_looking_for_an_array_among_very_many_fields_ends_soon() -> None:
    tensor = delimited(2, delimited(3, bytes(1 << 20)))
    data = b"\x78\0" * (MAX_FIELDS - 10) + tensor
    found = read_message(coding_pb2.CompressRequest, data)
    assert isinstance(found, coding_pb2.CompressRequest)
    assert len(found.bottleneck.data) == 1 << 20


_WITHOUT_MEMORY = """
import resource
import psutil
from entropyd.v1 import types_pb2
from entropyd_server.rpc.messages import read_message, write_message
message = types_pb2.Tensor(data=bytes(60 << 20))
blob = write_message(message)
assert read_message(type(message), blob) == message
limit = psutil.Process().memory_info().vms + (30 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for work in (lambda: read_message(type(message), blob), lambda: write_message(message)):
    try:
        work()
    except MemoryError:
        print("no memory")
"""


def test_a_message_for_which_there_is_no_memory_is_not_called_a_bad_one() -> None:
    command = [sys.executable, "-c", _WITHOUT_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["no memory"] * 2
