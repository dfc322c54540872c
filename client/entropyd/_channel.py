"""Channels and the errors that come back over them.

Owns how a channel is opened and how a gRPC failure becomes an entropyd error. It must not know any call.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from entropyd.contract.errors import EntropydError, UnavailableError, from_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

_DETAILS_KEY = "grpc-status-details-bin"

# Calls of these services change nothing, or the same thing however often they are made. A stream is not made
# again once an answer has come.
_RETRIED = [
    {"service": "entropyd.v1.CodingService"},
    {"service": "entropyd.v1.InfoService"},
    *(
        {"service": "entropyd.v1.ModelService", "method": method}
        for method in (
            "CreateModel",
            "GetModel",
            "ListModels",
            "GetTables",
            "GetWeights",
            "SetWeights",
            "Perturb",
        )
    ),
]
_SERVICE_CONFIG = {
    # Every address of the target takes its turn, unless its health says NOT_SERVING.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": _RETRIED,
            # About four seconds in all, within the call's own time. A server that is overloaded says itself
            # when to come again, and gRPC heeds it.
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "3s",
                "backoffMultiplier": 4,
                # gRPC's servers cancel the calls that reach them in the moment in which they stop.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        }
    ],
}
# A path may forget a connection without a word, as load balancers and NAT do. What has been silent for
# _KEEPALIVE_S is asked for an answer, also where no call is in flight, and dropped if none comes within
# _ANSWER_S; calls go out on a new connection then. Servers answer and permit it.
_KEEPALIVE_S, _ANSWER_S = 10, 8
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 1000 * _KEEPALIVE_S),
    # Both: the first alone ends nothing in gRPC 1.85, where the second is 60 s by default.
    ("grpc.keepalive_timeout_ms", 1000 * _ANSWER_S),
    ("grpc.http2.ping_timeout_ms", 1000 * _ANSWER_S),
    ("grpc.keepalive_permit_without_calls", 1),
    # Without a limit: by default, two pings without data have to do.
    ("grpc.http2.max_pings_without_data", 0),
    # Limits on messages are the server's to publish and to hold; the transport adds none of its own.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A message above this is not kept for another attempt; by default, none above 256 KiB is.
    ("grpc.per_rpc_retry_buffer_size", 256 * 1024 * 1024),
]


def to_error(failure: grpc.RpcError) -> EntropydError:
    """The entropyd error of a failed call."""
    call: Any = failure  # grpc raises errors that are calls too; its types do not say so
    code, message = call.code().name, call.details() or ""
    status = _details(call.trailing_metadata() or ())
    if status is None and code == "UNAVAILABLE":
        return UnavailableError(f"the server cannot be reached: {message}", reason="UNREACHABLE")
    return from_status(code, message or f"the call ended with {code}", status)


def _details(trailing: Iterable[tuple[str, Any]]) -> status_pb2.Status | None:
    for key, value in trailing:
        if key == _DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
