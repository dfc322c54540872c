"""Laws of what surrounds a call: it says who calls, keeps to its time, and fails with errors of ours."""

from __future__ import annotations

import grpc
import pytest

from entropyd._caller import Caller
from entropyd.contract.errors import UnavailableError
from entropyd.v1 import info_pb2, info_pb2_grpc

MODEL_ID = "ab" * 32


def test_a_call_carries_the_token_and_the_model_that_it_is_about() -> None:
    token, model = ("authorization", "Bearer secret"), ("entropyd-model", MODEL_ID)
    with Caller("secret", 60.0, tracing=False).call("Compress", MODEL_ID, None) as options:
        assert options()["metadata"] == [token, model]
    with Caller("secret", 60.0, tracing=False).call("ListModels", None, None) as options:
        assert options()["metadata"] == [token]
    with Caller(None, 60.0, tracing=False).call("Compress", MODEL_ID, None) as options:
        assert options()["metadata"] == [model]


def test_the_messages_of_a_call_share_its_time() -> None:
    caller = Caller(None, 60.0, tracing=False)
    with caller.call("Compress", None, None) as options:
        assert 5 < options()["timeout"] <= 60
    with caller.call("Compress", None, 5.0) as options:
        first, second = options()["timeout"], options()["timeout"]
    assert 0 < second < first <= 5


def test_a_grpc_failure_leaves_a_call_as_an_error_of_ours_and_all_else_as_it_is() -> None:
    caller = Caller(None, 5.0, tracing=False)
    with grpc.insecure_channel("unix:/nowhere") as channel:
        stub = info_pb2_grpc.InfoServiceStub(channel)
        with pytest.raises(UnavailableError) as caught, caller.call("GetServerInfo", None, None) as options:
            stub.GetServerInfo(info_pb2.GetServerInfoRequest(), **options())
    assert caught.value.__suppress_context__
    with pytest.raises(KeyError), caller.call("GetServerInfo", None, None):
        raise KeyError
