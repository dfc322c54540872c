"""Frames between the server and a worker."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from entropyd import UniversalBatchedConfig, UniversalIndexedConfig, priors
from entropyd.contract.errors import LimitExceededError
from entropyd.contract.tables import RawTables
from entropyd_server.modeling import build_frames, perturbation, protocol
from entropyd_server.modeling.build_frames import BuiltTables
from entropyd_server.modeling.perturbation import PerturbCall, Perturbed, PerturbKey, PerturbUnits
from entropyd_server.modeling.protocol import Frame, FrameError

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


def test_the_end_of_the_pipe_is_not_a_frame() -> None:
    assert protocol.read_frame(io.BytesIO()) is None


@pytest.mark.parametrize("stray", [b"a line that somebody printed\n", b"\x04" + bytes(7) + b"text"])
def test_bytes_that_are_not_a_frame_are_refused(stray: bytes) -> None:
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
    assert build_frames.config_of(_received(build_frames.build_tables_frame(config))) == config


def test_tables_cross_to_the_bit() -> None:
    sent = BuiltTables(RawTables(np.array([-1, 0, 1, 2], np.int32), np.array([-7], np.int32)), {"numpy": "1"})
    received = BuiltTables.from_frame(_received(sent.to_frame()))
    np.testing.assert_array_equal(received.tables.cdf, sent.tables.cdf)
    np.testing.assert_array_equal(received.tables.cdf_offset, sent.tables.cdf_offset)
    assert received.built_with == sent.built_with


def test_a_response_of_another_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="'ready' frame"):
        BuiltTables.from_frame(protocol.ready_frame({}))
    with pytest.raises(FrameError, match="'other' frame"):
        protocol.versions_of(Frame("other"))


def test_units_to_perturb_cross_with_what_is_wanted() -> None:
    units = np.arange(12, dtype=np.uint16).reshape(2, 3, 2)
    config = UniversalBatchedConfig(prior=priors.NoisyNormal(loc=0, scale=1), coding_rank=2)
    for index_dtype, indexes in ((None, None), ("bfloat16", units)):
        key = PerturbKey(
            config.model_id,
            training=True,
            gradient=False,
            coding_shape=(3, 2),
            index_gradient=indexes is not None,
            index_dtype=index_dtype,
        )
        sent = PerturbUnits(units, indexes)
        for held in (None, config):
            received = perturbation.perturb_of(_received(perturbation.perturb_frame(key, sent, held)))
            assert (received[0], received[2]) == (key, held)
            assert received[1].by_name.keys() == sent.by_name.keys()
            for name, array in sent.by_name.items():
                np.testing.assert_array_equal(received[1].by_name[name], array)


def test_units_carry_numbers_where_their_dither_depends_on_them() -> None:
    prior = priors.NoisyNormal(loc=0, scale=[1, 2])
    config = UniversalIndexedConfig(prior, 1)
    x = np.zeros((5, 3), np.float32)
    for training, numbers in ((False, [9, 10]), (True, None)):
        key = PerturbKey(config.model_id, training, gradient=False, coding_shape=(3,), index_dtype="float32")
        part = PerturbCall(config, key, x, 3, np.zeros((5, 3, 1), np.float32), first_unit=7).part(2, 4)
        assert {name: array.shape for name, array in part.by_name.items() if name != "numbers"} == {
            "units": (2, 3),
            "indexes": (2, 3, 1),
        }
        assert (None if part.numbers is None else part.numbers.tolist()) == numbers


def test_perturbed_units_can_be_cut_and_joined() -> None:
    whole = Perturbed(np.arange(6).reshape(3, 2), np.arange(3.0), np.ones((3, 2)), np.ones((3, 2, 1)))
    received = Perturbed.from_frame(_received(whole.to_frame()))
    again = Perturbed.join([received[:1], received[1:]])
    np.testing.assert_array_equal(again.perturbed, whole.perturbed)
    np.testing.assert_array_equal(again.bits, whole.bits)
    np.testing.assert_array_equal(again.by_name["index_gradient"], whole.by_name["index_gradient"])
    assert Perturbed.join([Perturbed(whole.perturbed, whole.bits, None)] * 2).gradient is None
