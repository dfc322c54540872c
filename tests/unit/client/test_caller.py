"""Laws of what surrounds a call: it says who calls, keeps to its time, and fails with errors of ours."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from entropyd._caller import Caller
from entropyd._session import Session
from entropyd._settings import Settings
from entropyd.aio import _session as aio
from entropyd.contract.errors import CancelledError, UnavailableError
from entropyd.v1 import info_pb2, info_pb2_grpc

if TYPE_CHECKING:
    from entropyd._session_base import SessionBase

MODEL_ID = "ab" * 32
TARGET = "unix:/nowhere"
CALLER = Caller(TARGET, None, 60.0, tracing=False)


def test_a_call_carries_the_token_and_the_model_that_it_is_about() -> None:
    token, model = ("authorization", "Bearer secret"), ("entropyd-model", MODEL_ID)
    with Caller(TARGET, "secret", 60.0, tracing=False).call("Compress", MODEL_ID, None) as options:
        assert options()["metadata"] == [token, model]
    with Caller(TARGET, "secret", 60.0, tracing=False).call("ListModels", None, None) as options:
        assert options()["metadata"] == [token]
    with Caller(TARGET, None, 60.0, tracing=False).call("Compress", MODEL_ID, None) as options:
        assert options()["metadata"] == [model]


def test_the_messages_of_a_call_share_its_time() -> None:
    caller = Caller(TARGET, None, 60.0, tracing=False)
    with caller.call("Compress", None, None) as options:
        assert 5 < options()["timeout"] <= 60
    with caller.call("Compress", None, 5.0) as options:
        first, second = options()["timeout"], options()["timeout"]
    assert 0 < second < first <= 5


@pytest.mark.parametrize("kind", [Session, aio.Session])
def test_calls_that_belong_together_share_their_time(kind: type[SessionBase]) -> None:
    session = kind(Settings("localhost:1", None, None, 60.0, tracing=False))
    now = time.monotonic()
    for given, least, most in ((10.0, 6.0, 7.0), (None, 56.0, 57.0)):
        rest_s = session._rest_s(given, now - 3)
        assert rest_s is not None
        assert least < rest_s <= most
    assert session._rest_s(2.0, now - 3) == 0.001
    assert session._rest_s(math.inf, now - 3) == math.inf
    assert session._rest_s(2.0, now + 9) == 2.0  # next to nothing is gone
    with pytest.raises(ValueError, match="timeout_s is -1"):
        session._rest_s(-1, now - 3)


def test_a_grpc_failure_leaves_a_call_as_an_error_of_ours_and_all_else_as_it_is() -> None:
    caller = Caller(TARGET, None, 5.0, tracing=False)
    with grpc.insecure_channel(TARGET) as channel:
        stub = info_pb2_grpc.InfoServiceStub(channel)
        with pytest.raises(UnavailableError) as caught, caller.call("GetServerInfo", None, None) as options:
            stub.GetServerInfo(info_pb2.GetServerInfoRequest(), **options())
    assert caught.value.__suppress_context__
    with pytest.raises(KeyError), caller.call("GetServerInfo", None, None):
        raise KeyError


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e10, 9.3e9, 10**30, np.float32("inf")])
def test_no_end_and_times_beyond_grpcs_clock_are_no_limit(timeout_s: float) -> None:
    for caller, given in ((Caller(TARGET, None, timeout_s, tracing=False), None), (CALLER, timeout_s)):
        with caller.call("Compress", None, given) as options:
            assert options()["timeout"] is None


def test_a_client_without_a_limit_takes_the_limits_of_its_calls() -> None:
    caller = Caller(TARGET, None, None, tracing=False)
    with caller.call("Compress", None, None) as options:
        assert options()["timeout"] is None
    with caller.call("Compress", None, 5) as options:
        assert 0 < options()["timeout"] <= 5


@pytest.mark.parametrize("timeout_s", [float("nan"), -1, -0.001, float("-inf"), "5", True, [1]])
def test_what_is_no_time_is_refused_before_a_call_is_made(timeout_s: Any) -> None:
    expected = rf"timeout_s is {re.escape(repr(timeout_s))}; expected seconds from 0 up, or None"
    with pytest.raises(ValueError, match=expected):
        Caller(TARGET, None, timeout_s, tracing=False)
    with pytest.raises(ValueError, match=expected), CALLER.call("Compress", None, timeout_s):
        pytest.fail("the call was made")


def test_a_closed_client_makes_no_call() -> None:
    caller = Caller(TARGET, None, None, tracing=False)
    caller.close()
    with pytest.raises(CancelledError, match="the client is closed"), caller.call("Compress", None, None):
        pytest.fail("the call was made")


def test_a_client_that_is_closed_while_a_call_begins_says_so_too() -> None:
    caller = Caller(TARGET, None, None, tracing=False)
    with grpc.insecure_channel(TARGET) as channel:
        stub = info_pb2_grpc.InfoServiceStub(channel)

    def call() -> None:
        with caller.call("GetServerInfo", None, None) as options:
            caller.close()
            stub.GetServerInfo(info_pb2.GetServerInfoRequest(), **options())

    with pytest.raises(CancelledError, match="the client is closed"):
        call()
