"""Channels and the errors that come back over them.

Owns how a channel is opened and how a gRPC failure becomes an entropyd error. It must not know any call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from entropyd.contract.errors import EntropydError, UnavailableError, from_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

_DETAILS_KEY = "grpc-status-details-bin"

# Limits on messages are the server's to publish and to hold; the transport adds none of its own.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def metadata(token: str | None, model_id: str | None = None) -> list[tuple[str, str]]:
    """Request metadata: the bearer token, and the model id for proxies that route by it."""
    entries = []
    if token is not None:
        entries.append(("authorization", f"Bearer {token}"))
    if model_id is not None:
        entries.append(("entropyd-model", model_id))
    return entries


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
