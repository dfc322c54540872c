"""Laws of Perturb's and FitModel's requests: a small one that asks for much is refused before any work."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract.errors import (
    EntropydError,
    InvalidRequestError,
    InvalidTensorError,
    LimitExceededError,
)
from entropyd.contract.kinds import config_to_message
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import model_pb2, types_pb2
from entropyd_server.limits import Limits
from entropyd_server.rpc.requests.fit import read_task
from entropyd_server.rpc.requests.perturb import parse_perturb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

LIMITS = Limits(max_message_bytes=4096, max_model_bytes=4096, max_build_seconds=1, max_units=64)
CONFIG = UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, [1.0, 2.0, 3.0]), coding_rank=2)
HUGE_BYTES = 2**20


def tensor(shape: list[int], data: bytes = b"") -> types_pb2.Tensor:
    return types_pb2.Tensor(dtype=types_pb2.D_TYPE_FLOAT32, shape=shape, data=data)


@pytest.mark.parametrize(
    ("shape", "data_bytes", "limit"),
    [
        ([65, 1, 3], 780, "max_units"),
        ([1, 1000, 1], 4000, "max_message_bytes"),  # repeated to three channels
        ([2**40, 0, 1], 0, "max_units"),
        ([64, 0, 3], 0, None),
    ],
)
def test_a_small_perturb_request_for_a_large_array_is_refused_before_it_is_made(
    shape: list[int], data_bytes: int, limit: str | None
) -> None:
    request = model_pb2.PerturbRequest(bottleneck=tensor(shape, bytes(data_bytes)))
    tracemalloc.start()
    try:
        if limit is None:
            parse_perturb(request, CONFIG, LIMITS)
        else:
            with pytest.raises(LimitExceededError) as caught:
                parse_perturb(request, CONFIG, LIMITS)
            assert caught.value.metadata == {"limit": limit, "value": str(getattr(LIMITS, limit))}
        assert tracemalloc.get_traced_memory()[1] < HUGE_BYTES
    finally:
        tracemalloc.stop()


@given(
    st.lists(st.integers(-1, 4) | st.integers(0, 2**63 - 1), max_size=34),
    st.integers(0, 12),
    st.integers(0, 6),
)
def test_any_bottleneck_is_let_in_whole_or_refused(shape: list[int], elements: int, dtype: int) -> None:
    message = types_pb2.Tensor(dtype=dtype, shape=shape, data=bytes(4 * elements))  # type: ignore[arg-type]
    try:
        call, batch_shape = parse_perturb(model_pb2.PerturbRequest(bottleneck=message), CONFIG, LIMITS)
    except (InvalidTensorError, LimitExceededError):
        return
    assert len(call.units) == np.prod(batch_shape) <= LIMITS.max_units
    assert call.units.nbytes <= LIMITS.max_message_bytes


def task(parts: Iterable[types_pb2.Tensor], **options: Any) -> Any:
    async def requests() -> AsyncIterator[model_pb2.FitModelRequest]:
        configuration = model_pb2.FitConfiguration(config=config_to_message(CONFIG), **options)
        yield model_pb2.FitModelRequest(configuration=configuration)
        for part in parts:
            yield model_pb2.FitModelRequest(samples=part)

    return asyncio.run(read_task(requests(), LIMITS))


def test_samples_in_parts_are_put_together() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    read = task([tensor_to_message(rows[:150]), tensor_to_message(rows[150:])])
    np.testing.assert_array_equal(read.samples, rows)


@pytest.mark.parametrize("part", [tensor([400, 3], bytes(4800)), tensor([0, 3])], ids=["large", "empty"])
def test_samples_without_end_are_refused(part: types_pb2.Tensor) -> None:
    def endless() -> Iterable[types_pb2.Tensor]:
        while True:
            yield part

    with pytest.raises(LimitExceededError) as caught:
        task(endless())
    assert caught.value.metadata["limit"] == "max_message_bytes"


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_any_messages_of_a_fit_are_a_task_or_an_error(messages: list[bytes]) -> None:
    async def requests() -> AsyncIterator[model_pb2.FitModelRequest]:
        for data in messages:
            message = model_pb2.FitModelRequest()
            with contextlib.suppress(DecodeError):  # what is no message never gets here
                message.ParseFromString(data)
                yield message

    with pytest.raises(EntropydError) as caught:
        asyncio.run(read_task(requests(), LIMITS))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_fit_without_a_configuration_is_refused() -> None:
    async def requests() -> AsyncIterator[model_pb2.FitModelRequest]:
        yield model_pb2.FitModelRequest(samples=tensor([100, 3], bytes(1200)))

    with pytest.raises(InvalidRequestError, match="configuration first"):
        asyncio.run(read_task(requests(), LIMITS))
