"""Turns an error into the status of a call: the one place where this happens.

Invariant: what a caller is sent of an error fits into the trailers of any client and proxy.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import NamedTuple

import grpc

from entropyd.contract.errors import EntropydError, OverloadedError, to_status
from entropyd_server.transport.call import Call
from entropyd_server.transport.error_size import fitted

REQUEST_ID_KEY = "entropyd-request-id"
_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
# Set by gRPC's clients: the number of attempts before this one, at most four.
_ATTEMPTS_KEY = "grpc-previous-rpc-attempts"
_ATTEMPTS = ("1", "2", "3", "4")
# Stands for a request id, and has the length of those that the server makes.
_ANY_ID = "?" * 16


class Status(NamedTuple):
    """What ends a call that fails."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


def status_of(error: EntropydError, call: Call) -> Status:
    """The status that tells a caller of an error, under the request id of the call if it has one."""
    error = fitted(_more_patient(error, call))
    trailing: list[tuple[str, str | bytes]] = [(_DETAILS_KEY, render(error, call.request_id))]
    if call.request_id:
        trailing.append((REQUEST_ID_KEY, call.request_id))
    if error.retry_after_s is not None:
        # gRPC's clients wait so long: proposal A6, client retries.
        trailing.append((_PUSHBACK_KEY, str(round(error.retry_after_s * 1000))))
    return Status(grpc.StatusCode[error.code], error.message, tuple(trailing))


def _more_patient(error: EntropydError, call: Call) -> EntropydError:
    """Doubles the wait for each time that the call was refused before.

    Otherwise refused callers use up their attempts while the queue stays full.
    """
    if error.retry_after_s is None:
        return error
    attempts = dict(call.invocation_metadata()).get(_ATTEMPTS_KEY)
    if attempts not in _ATTEMPTS:
        return error
    error = copy(error)  # several calls may share the error
    error.retry_after_s *= 2 ** int(attempts)
    return error


def render(error: EntropydError, request_id: str) -> bytes:
    """The serialised `google.rpc.Status` of an error, with the request id.

    An overloaded server refuses many calls for one reason, and rendering would be much of that work. So such
    a status is rendered once, around request ids of one length.
    """
    if type(error) is not OverloadedError or error.metadata or len(request_id) != len(_ANY_ID):
        return bytes(to_status(error, request_id or None).SerializeToString())
    before, after = _around_any_id(error.message, error.retry_after_s)
    return b"".join((before, request_id.encode(), after))


@lru_cache(maxsize=16)
def _around_any_id(message: str, retry_after_s: float | None) -> tuple[bytes, bytes]:
    status = to_status(OverloadedError(message, retry_after_s=retry_after_s), _ANY_ID)
    before, _, after = status.SerializeToString().rpartition(_ANY_ID.encode())
    return before, after
