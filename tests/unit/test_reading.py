"""Laws of reading: a message is read as it is, in memory that its bytes are worth; all else is refused."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import InvalidRequestError, LimitExceededError
from entropyd.v1 import coding_pb2, model_pb2, types_pb2
from entropyd_server.rpc import reading
from entropyd_server.rpc.limits import MAX_FIELDS
from entropyd_server.rpc.reading import read_message

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
    assert reading._count_fields(data, type(REQUEST)) <= len(data)


def test_fields_are_counted_where_messages_hold_messages() -> None:
    # compressed and three ranges; in compressed batch_shape, payload, lengths and a block.
    assert reading._count_fields(REQUEST.SerializeToString(), type(REQUEST)) == 4 + 4


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
    assert len(read_message(coding_pb2.DecompressRequest, data).units) == 1 << 20  # type: ignore[attr-defined]


def test_bytes_that_are_no_message_are_said_to_be_none() -> None:
    with pytest.raises(InvalidRequestError, match=r"is no entropyd\.v1\.CompressRequest"):
        read_message(coding_pb2.CompressRequest, b"\xff")
