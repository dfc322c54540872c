"""Frames between the server and a worker."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from entropyd import priors
from entropyd.contract.config import UniversalBatchedConfig
from entropyd.contract.errors import LimitExceededError
from entropyd_server.modeling import protocol
from entropyd_server.modeling.protocol import BuiltTables, Frame, FrameError

if TYPE_CHECKING:
    import numpy.typing as npt


def _received(frame: Frame) -> Frame:
    received = protocol.read_frame(io.BytesIO(frame.to_bytes()))
    assert received is not None
    return received


def test_a_frame_that_was_read_is_the_frame_that_was_written() -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "a": np.arange(6, dtype=np.int32).reshape(2, 3),
        "empty": np.zeros(0),
        "scalar": np.array(3),
    }
    frame = _received(Frame("kind", {"name": 'quoted " ü\n'}, tensors))
    assert (frame.kind, frame.metadata) == ("kind", {"name": 'quoted " ü\n'})
    for name, tensor in tensors.items():
        assert frame.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(frame.tensors[name], tensor)


def test_both_ends_read_the_same_frames() -> None:
    async def read() -> list[bytes]:
        stream = asyncio.StreamReader()
        stream.feed_data(frames)
        stream.feed_eof()
        return [await protocol.read_blob(stream), await protocol.read_blob(stream)]

    frames = Frame("first").to_bytes() + Frame("second").to_bytes()
    assert [Frame.from_blob(blob).kind for blob in asyncio.run(read())] == ["first", "second"]


def test_the_end_of_the_pipe_is_no_frame() -> None:
    assert protocol.read_frame(io.BytesIO()) is None


@pytest.mark.parametrize("stray", [b"a line that somebody printed\n", b"\x04" + bytes(7) + b"text"])
def test_bytes_that_are_no_frame_are_refused(stray: bytes) -> None:
    with pytest.raises(FrameError):
        protocol.read_frame(io.BytesIO(stray))


def test_an_error_crosses_whole() -> None:
    sent = LimitExceededError("too much", metadata={"limit": "max_model_bytes", "value": "7"})
    received = protocol.error_of(_received(protocol.error_frame(sent)))
    assert type(received) is LimitExceededError
    assert (received.message, received.metadata) == (sent.message, sent.metadata)


def test_a_configuration_crosses_to_the_bit() -> None:
    prior = priors.NoisyNormal(loc=[0.1, -0.0], scale=[1e-30, 3])
    config = UniversalBatchedConfig(prior=prior, coding_rank=1, tail_mass=1e-7, bottleneck_dtype="bfloat16")
    assert protocol.config_of(_received(protocol.build_tables_frame(config))) == config


def test_tables_cross_to_the_bit() -> None:
    sent = BuiltTables(np.array([-1, 0, 1, 2], np.int32), np.array([-7], np.int32), {"numpy": "1"})
    received = BuiltTables.from_frame(_received(sent.to_frame()))
    np.testing.assert_array_equal(received.cdf, sent.cdf)
    np.testing.assert_array_equal(received.cdf_offset, sent.cdf_offset)
    assert received.built_with == sent.built_with


def test_an_answer_of_another_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="'ready' frame"):
        BuiltTables.from_frame(protocol.ready_frame({}))
    with pytest.raises(FrameError, match="'other' frame"):
        protocol.versions_of(Frame("other"))
