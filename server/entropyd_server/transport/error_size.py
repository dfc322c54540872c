"""Makes errors small enough for trailers, however much of the input they repeat.

Invariant: what a caller is sent of an error fits into 4 KiB of metadata, with its request id. gRPC's clients
take 8 KiB by default and drop the call's status above that, proxies take 4 KiB or more.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from entropyd.contract.errors import EntropydError, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

# As sent. The message is sent twice, once of them in base64 with metadata and violations.
_MESSAGE_BYTES = 600
_METADATA_BYTES = 400
_VALUE_BYTES = 300
_VIOLATIONS_BYTES = 900
_VIOLATION_BYTES = 300
# Of a field in its message: two tags, two lengths, and the message's own.
_ENVELOPE_BYTES = 8
_CUT = "..."


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
