"""The log of a real server, as a collector of logs reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
from entropyd._compression import Compression
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def logging_server(store_url: str, server: LocalServer) -> Iterator[LocalServer]:
    """A server that logs JSON, and every call."""
    flags = ["--role", "coding", "--log-format", "json", "--log-level", "debug"]
    with LocalServer(*flags, store=store_url) as running:
        yield running


def lines(server: LocalServer) -> list[dict[str, Any]]:
    """All lines so far; a call's line is written before its answer is sent."""
    return [json.loads(line) for line in server.log_path.read_text().splitlines()]


def test_each_line_is_an_object_and_a_failure_is_found_by_its_request_id(
    logging_server: LocalServer, model: entropyd.Model
) -> None:
    with entropyd.Client(logging_server.target, token="hunter2") as client:  # noqa: S106 - no real token
        logged = entropyd.Model(client._session, model.info)
        logged.compress(np.zeros((4, 3), np.float32))
        with pytest.raises(entropyd.InvalidTensorError) as caught:
            logged.compress(np.full((4, 3), 1e30, np.float32))
    (failure,) = [
        line
        for line in lines(logging_server)
        if line.get("request_id") == caught.value.metadata["request_id"]
    ]
    assert (failure["level"], failure["method"], failure["code"]) == ("INFO", "Compress", "INVALID_ARGUMENT")
    assert (failure["reason"], failure["model"]) == ("INVALID_TENSOR", model.id[:12])
    assert {"logger", "message", "time", "milliseconds"} <= failure.keys()
    answered = [line for line in lines(logging_server) if line.get("code") == "OK"]
    assert "Compress" in {line["method"] for line in answered}
    written = logging_server.log_path.read_text()
    assert "hunter2" not in written
    assert model.id not in written
    assert "1e+30" not in written


def test_a_message_of_a_stream_that_fails_is_a_line_too(
    logging_server: LocalServer, model: entropyd.Model
) -> None:
    serialised, _ = next(Compression(model.info, np.full((4, 3), np.nan, np.float32)).requests())
    request = coding_pb2.CompressRequest.FromString(serialised)
    with grpc.insecure_channel(logging_server.target) as channel:
        stub = coding_pb2_grpc.CodingServiceStub(channel)
        (answer,) = stub.CompressStream(
            iter([coding_pb2.CompressStreamRequest(request_id="first", request=request)]),
            metadata=(("x-request-id", "stream-7"),),
        )
    assert (answer.request_id, answer.status.metadata["request_id"]) == ("first", "stream-7")
    (failure,) = [line for line in lines(logging_server) if line.get("request_id") == "stream-7"]
    assert (failure["method"], failure["reason"]) == ("CompressStream", "INVALID_TENSOR")
