"""Options of channels, and the entropyd error of a gRPC failure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from entropyd.contract.address import stays_on_this_machine
from entropyd.contract.errors import DeadlineExceededError, EntropydError, UnavailableError, from_status

# Every server answers this call at once and without a token. gRPC does not retry it, so where there is no
# connection, it fails at once and says why.
PROBE = "/grpc.health.v1.Health/Check"
# Probes after a call without an answer. gRPC sends them to the addresses of a target in turn.
PROBES = 8
# Other calls use the outcome of probes that are as recent as this.
PROBE_AGE_S = 1.0

_DETAILS_KEY = "grpc-status-details-bin"
# Part of gRPC's message of a connection that fails -> what it means.
_CAUSES = (
    ("WRONG_VERSION_NUMBER", "it does not speak TLS; connect without TLS"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it asks for a certificate of the client"),
    ("http1.x server", "it speaks HTTP/1, not gRPC"),
    ("Socket closed", "it closed the connection; if it speaks TLS, connect with TLS"),
    ("Domain name not found", "its name cannot be resolved"),
)
# The same, of a server whose health checks say that it does not serve.
_UNHEALTHY = "backend unhealthy"
# Code and address, which stand before the cause.
_BEFORE_CAUSE = re.compile(r".*last error: (?:[A-Z_]+: )?(?:(?:ipv[46]|unix):\S+: )?", re.DOTALL)

# gRPC's messages of calls for which it had no connection: of its balancing, and of either resolver of names.
_NOT_CONNECTED = re.compile("last error: |resolution failed|errors resolving|empty address list")

# Idempotent methods of each service.
_IDEMPOTENT = {
    "CodingService": ("Compress", "CompressStream", "Decompress", "DecompressStream"),
    "InfoService": ("GetServerInfo",),
    "ModelService": (
        "CreateModel",
        "GetModel",
        "ListModels",
        "ResolveModelName",
        "ListModelNames",
        "GetTables",
        "GetWeights",
        "SetWeights",
        "Perturb",
    ),
}
_SERVICE_CONFIG = {
    # Calls go to all addresses of the target in turn, but for those whose health says NOT_SERVING.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [
                {"service": f"entropyd.v1.{service}", "method": method}
                for service, methods in _IDEMPOTENT.items()
                for method in methods
            ],
            # About four seconds in all, within the call's own time. An overloaded server says when to retry,
            # and gRPC obeys. gRPC does not retry a call whose response has begun: sessions do, see `repeats`.
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "3s",
                "backoffMultiplier": 4,
                # gRPC's servers cancel the calls that arrive while they stop.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        }
    ],
}
# Load balancers and NAT forget idle connections without telling either end. gRPC pings a connection that has
# been silent for _KEEPALIVE_S, with or without calls in flight, and drops it if there is no answer within
# _ANSWER_S. Servers permit these pings.
_KEEPALIVE_S, _ANSWER_S = 10, 8
# Least time between two channels of a client. gRPC itself drops a silent connection in this time.
RENEWAL_S = _KEEPALIVE_S + _ANSWER_S
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 1000 * _KEEPALIVE_S),
    # Both: gRPC 1.85 also waits for the second, which is 60 s by default.
    ("grpc.keepalive_timeout_ms", 1000 * _ANSWER_S),
    ("grpc.http2.ping_timeout_ms", 1000 * _ANSWER_S),
    ("grpc.keepalive_permit_without_calls", 1),
    # No limit: by default, gRPC sends two pings without data and no more.
    ("grpc.http2.max_pings_without_data", 0),
    # The server limits messages and publishes the limits; gRPC adds none of its own.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # Larger messages are not retried; the default is 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", 256 * 1024 * 1024),
]


def options(target: str, *, new_connections: bool = False) -> list[tuple[str, Any]]:
    """Options of a channel; with `new_connections` it shares none with other channels of this process."""
    options = list(_OPTIONS)
    if stays_on_this_machine(target):
        options.append(("grpc.enable_http_proxy", 0))  # proxies of the environment are for remote servers
    if new_connections:
        options.append(("grpc.use_local_subchannel_pool", 1))
    return options


def probe_timeout_s(waited_s: float) -> float:
    """How long to wait for an answer to a probe, in seconds, after a call that had none for `waited_s`.

    It is longer than a round trip, and short compared with the time that the caller allowed.
    """
    return min(max(waited_s / 5, 0.2), 1.0)


def unanswered(failure: grpc.RpcError) -> bool:
    """Whether a call passed its deadline without any response of the server."""
    call: Any = failure
    return status_code(failure) == "DEADLINE_EXCEEDED" and _details(call.trailing_metadata() or ()) is None


def repeats(method: str, failure: grpc.RpcError) -> bool:
    """Whether to make a failed call once more: it is idempotent, and gRPC lost the connection."""
    return _lost(failure) and any(method in methods for methods in _IDEMPOTENT.values())


def _lost(failure: grpc.RpcError) -> bool:
    """Whether the connection, or a proxy's to its server, was lost before the response was complete.

    A server or proxy that answers sends metadata with its status; gRPC's own failures have none.
    """
    call: Any = failure
    code, message = status_code(failure), call.details() or ""
    if call.trailing_metadata():
        return False
    # A proxy resets the stream, and gRPC calls that INTERNAL.
    reset = code == "INTERNAL" and "RST_STREAM" in message
    return reset or (code == "UNAVAILABLE" and _NOT_CONNECTED.search(message) is None)


def status_code(failure: grpc.RpcError) -> str:
    call: Any = failure  # grpc raises errors that are calls too; its types do not say so
    return str(call.code().name)


def to_error(
    failure: grpc.RpcError, target: str = "the server", timeout_s: float | None = None
) -> EntropydError:
    """The entropyd error of a failed call; `timeout_s` was its time limit, None if it had none."""
    call: Any = failure
    code, message = status_code(failure), call.details() or ""
    status = _details(call.trailing_metadata() or ())
    if _lost(failure):
        lost = f"the connection to {target} was lost before the response was complete: {message}"
        return UnavailableError(lost, reason="UNREACHABLE")
    if status is None and code == "UNAVAILABLE" and _UNHEALTHY in message:
        return UnavailableError(
            f"{target} is starting or draining, and does not serve this call now", reason="STARTING"
        )
    if status is None and code == "UNAVAILABLE":
        return UnavailableError(f"{target} cannot be reached: {_cause(message)}", reason="UNREACHABLE")
    if status is None and code == "DEADLINE_EXCEEDED":
        return DeadlineExceededError(f"no answer from {target} within timeout_s={timeout_s}")
    return from_status(code, message or f"the call ended with {code}", status)


def _cause(message: str) -> str:
    for found, meaning in _CAUSES:
        if found in message:
            return meaning
    return _BEFORE_CAUSE.sub("", message)


def _details(trailing: Iterable[tuple[str, Any]]) -> status_pb2.Status | None:
    for key, value in trailing:
        if key == _DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
