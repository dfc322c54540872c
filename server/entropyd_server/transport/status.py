"""Turns an error into the status of a call: the one place where this happens.

Invariant: what a caller is sent of an error fits into 4 KiB of metadata, however much of the input it has.
gRPC's clients take 8 KiB by default and drop the call's status above that, proxies take 4 KiB or more.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from functools import lru_cache
from typing import NamedTuple

import grpc

from entropyd.contract.errors import EntropydError, OverloadedError, Violation, to_status
from entropyd_server.transport.call import Call

REQUEST_ID_KEY = "entropyd-request-id"
_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
# Set by gRPC's clients: the number of attempts before this one, at most four.
_ATTEMPTS_KEY = "grpc-previous-rpc-attempts"
_ATTEMPTS = ("1", "2", "3", "4")
# Stands for a request id, and has the length of those that the server makes.
_ANY_ID = "?" * 16
# As sent. The message is sent twice, once of them in base64 with metadata and violations.
_MESSAGE_BYTES = 600
_METADATA_BYTES = 400
_VALUE_BYTES = 300
_VIOLATIONS_BYTES = 900
_VIOLATION_BYTES = 300
# Of a field in its message: two tags, two lengths, and the message's own.
_ENVELOPE_BYTES = 8
_CUT = "..."


class Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


def status_of(error: EntropydError, call: Call) -> Status:
    """The status of an error, with the request id of the call if it has one."""
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

    An overloaded server refuses many calls for one reason. Its status is rendered once, around request ids of
    one length, because rendering would be much of that work.
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


def fitted(error: EntropydError) -> EntropydError:
    """The error, or a copy with a shorter message, shorter values and its first violations.

    A last violation then says how many were left out.
    """
    message = shortened(error.message, _MESSAGE_BYTES)
    metadata = dict(_fitted_metadata(error.metadata.items()))
    violations = _fitted_violations(error.violations)
    if message == error.message and metadata == error.metadata and violations == error.violations:
        return error
    error = copy(error)  # several calls may share the error
    error.message, error.metadata, error.violations = message, metadata, violations
    return error


def shortened(text: str, most_bytes: int) -> str:
    """The text, or its beginning with dots, in so many bytes when it is sent as `grpc-message`.

    What is no Unicode (lone surrogates) becomes escapes, for protobuf takes none.
    """
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    if (text.isascii() and 3 * len(text) <= most_bytes) or _sent_bytes(text) <= most_bytes:
        return text
    kept = text[: most_bytes - len(_CUT)]
    while _sent_bytes(kept) > most_bytes - len(_CUT):
        kept = kept[: min(len(kept) - 1, len(kept) * most_bytes // _sent_bytes(kept))]
    return kept + _CUT


def _sent_bytes(text: str) -> int:
    """Length once all but printable ASCII is percent-encoded, and what gRPC escapes with."""
    plain = sum(" " <= character <= "~" and character != "%" for character in text)
    return plain + 3 * (len(text.encode()) - plain)


def _fitted_metadata(items: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    left = _METADATA_BYTES
    for key, value in items:
        fit = shortened(value, _VALUE_BYTES)
        if fit != value and "," in fit:
            fit = fit.rpartition(",")[0]  # the first of a list, whole
        left -= len(key) + len(fit.encode()) + _ENVELOPE_BYTES
        if left >= 0:
            yield key, fit


def _fitted_violations(violations: tuple[Violation, ...]) -> tuple[Violation, ...]:
    left = _VIOLATIONS_BYTES
    kept: list[Violation] = []
    for violation in violations:
        fit = Violation(
            *(shortened(text, _VIOLATION_BYTES) for text in (violation.field, violation.description))
        )
        left -= len(fit.field.encode()) + len(fit.description.encode()) + _ENVELOPE_BYTES
        if left < 0:
            kept.append(Violation(_CUT, f"and {len(violations) - len(kept)} more"))
            break
        kept.append(fit)
    return tuple(kept)
