"""The error tree, its catalog of gRPC codes and reasons, and its form as `google.rpc` details.

Invariant: `to_status` followed by `from_status` restores class, reason, message and metadata, so a caller
sees the same error on either side of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

if TYPE_CHECKING:
    from typing_extensions import Self

DOMAIN = "entropyd"


@dataclass(frozen=True)
class Violation:
    """One thing wrong with a request.

    Attributes:
      field: Path of the field, as in `prior.scale` or `coding_rank`.
      description: What was found and what was expected; follows the field's name in a sentence.
    """

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field} {self.description}"


class EntropydError(Exception):
    """Base of everything that entropyd raises.

    Attributes:
      code: Name of the gRPC status code.
      reason: Stable identifier of the case, one of `reasons`; programs match on it.
      metadata: Names and values that a program may need (a model id, a limit).
      violations: For a bad request, every problem that was found.
      retry_after_s: Seconds after which a retry may succeed; None where the server does not know.
    """

    code: str = "INTERNAL"
    reasons: ClassVar[tuple[str, ...]] = ("INTERNAL",)

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.reasons[0] if reason is None else reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class _InvalidArgumentError(EntropydError):
    code = "INVALID_ARGUMENT"

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> Self:
        """The error whose message lists `violations`, at least one."""
        return cls("; ".join(str(violation) for violation in violations), violations=violations)

    @classmethod
    def at(cls, field: str, description: str) -> Self:
        """The error of one violation; see `Violation`."""
        return cls.of([Violation(field, description)])


class InvalidConfigError(_InvalidArgumentError):
    """A configuration that cannot make a model."""

    reasons = ("INVALID_CONFIG",)


class InvalidTensorError(_InvalidArgumentError):
    """An array of wrong rank, shape or dtype, or with an element that cannot be coded."""

    reasons = ("INVALID_TENSOR",)


class InvalidRequestError(_InvalidArgumentError):
    """A message whose fields contradict one another or are missing."""

    reasons = ("INVALID_REQUEST",)


class _UnitsError(EntropydError):
    def __init__(
        self, message: str, *, units: Sequence[int] = (), partial: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        if units:
            self.metadata["units"] = ",".join(str(unit) for unit in units)
        named = self.metadata.get("units", "").split(",")
        self.units = tuple(int(unit) for unit in named if unit.isdecimal())
        self.partial = partial


class CorruptStringError(_UnitsError, _InvalidArgumentError):
    """Bit strings that cannot be decoded, or whose checksum fails.

    Attributes:
      units: Flat indexes of the damaged coding units, in batch order.
      partial: What could be decoded, with NaN in the damaged units; None unless it was asked for.
    """

    reasons = ("CORRUPT_STRING",)


class LimitExceededError(_InvalidArgumentError):
    """A message, tensor or model above a limit of the server; `metadata` names the limit."""

    reasons = ("LIMIT_EXCEEDED",)


class ModelNotFoundError(EntropydError):
    """No model of that id or name is in the store."""

    code = "NOT_FOUND"
    reasons = ("MODEL_NOT_FOUND",)


class TablesMismatchError(EntropydError):
    """The strings were made with other coding tables than the store holds for the model."""

    code = "FAILED_PRECONDITION"
    reasons = ("TABLES_MISMATCH",)


class IndexesMismatchError(_UnitsError):
    """The strings were made with other indexes than those that are given to decode them.

    Attributes:
      units: Flat indexes of the coding units whose indexes differ, in batch order.
      partial: What could be decoded, with NaN in those units and in damaged ones, which
        `metadata["corrupt_units"]` names, if there are any; None unless it was asked for.
    """

    code = "FAILED_PRECONDITION"
    reasons = ("INDEXES_MISMATCH",)


class ModelStateError(EntropydError):
    """The model was made without what the call needs, or its name points at another model than expected."""

    code = "FAILED_PRECONDITION"
    reasons = ("MODEL_NOT_COMPRESSING", "MODEL_WITHOUT_PRIOR", "MODEL_WITHOUT_TABLES", "NAME_MOVED")


class OverloadedError(EntropydError):
    """The server's queue is full; `retry_after_s` says when to retry."""

    code = "RESOURCE_EXHAUSTED"
    reasons = ("OVERLOADED",)


class UnavailableError(EntropydError):
    """The server is starting, draining, out of reach, or lost the worker that computed this call."""

    code = "UNAVAILABLE"
    reasons = ("UNREACHABLE", "STARTING", "DRAINING", "WORKER_LOST", "STORE_UNAVAILABLE")


class DeadlineExceededError(EntropydError):
    """The caller's deadline passed, perhaps while the call was queued."""

    code = "DEADLINE_EXCEEDED"
    reasons = ("DEADLINE",)


class CancelledError(EntropydError):
    """The call was cancelled before it ended, or its client was closed."""

    code = "CANCELLED"
    reasons = ("CANCELLED",)


class UnauthenticatedError(EntropydError):
    """No credentials, or wrong ones."""

    code = "UNAUTHENTICATED"
    reasons = ("MISSING_CREDENTIALS", "INVALID_CREDENTIALS")


class PermissionDeniedError(EntropydError):
    """The credentials are right but lack the scope that the call needs."""

    code = "PERMISSION_DENIED"
    reasons = ("MISSING_SCOPE",)


class DataLossError(EntropydError):
    """A stored model that does not match its digests; a file that is damaged, cut short, or no archive."""

    code = "DATA_LOSS"
    reasons = ("MODEL_DAMAGED", "ARCHIVE_DAMAGED", "ARCHIVE_CHANGED")


class UnimplementedError(EntropydError):
    """This server does not offer the call."""

    code = "UNIMPLEMENTED"
    reasons = ("UNIMPLEMENTED",)


class RoleMissingError(UnimplementedError):
    """The call needs a role that this server does not have; the message says how to get it."""

    reasons = ("ROLE_MISSING",)

    @property
    def role(self) -> str:
        """The role that is missing: `coding`, `registry` or `modeling`."""
        return self.metadata.get("role", "")


class InternalError(EntropydError):
    """A defect of the server; its log holds the cause under the request id."""


CATALOG: tuple[type[EntropydError], ...] = (
    InvalidConfigError,
    InvalidTensorError,
    InvalidRequestError,
    CorruptStringError,
    LimitExceededError,
    ModelNotFoundError,
    TablesMismatchError,
    IndexesMismatchError,
    ModelStateError,
    OverloadedError,
    UnavailableError,
    DeadlineExceededError,
    CancelledError,
    UnauthenticatedError,
    PermissionDeniedError,
    DataLossError,
    UnimplementedError,
    RoleMissingError,
    InternalError,
)

# The numbers of the gRPC status codes that the catalog uses.
CODES = {error.code: code_pb2.Code.Value(error.code) for error in CATALOG}
_BY_REASON = {reason: error for error in CATALOG for reason in error.reasons}
# For a status that carries no entropyd details: a proxy's, or gRPC's own.
_BY_CODE: dict[str, type[EntropydError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "RESOURCE_EXHAUSTED": LimitExceededError,  # gRPC's own: a message above the transport's limit
    **{
        error.code: error
        for error in (
            UnavailableError,
            DeadlineExceededError,
            CancelledError,
            UnauthenticatedError,
            PermissionDeniedError,
            UnimplementedError,
            InternalError,
        )
    },
}


def to_status(error: EntropydError, request_id: str | None = None) -> status_pb2.Status:
    """Renders an error as `google.rpc.Status` with ErrorInfo; BadRequest and RetryInfo where they apply.

    `request_id`, by which the server's log knows the call, becomes metadata.
    """
    # Beside the error's own metadata: callers that wait for the same thing share one error.
    metadata = error.metadata if request_id is None else {**error.metadata, "request_id": request_id}
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if error.violations:
        violation = error_details_pb2.BadRequest.FieldViolation
        found = [violation(field=v.field, description=v.description) for v in error.violations]
        details.append(error_details_pb2.BadRequest(field_violations=found))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=CODES[error.code], message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def from_status(code: str, message: str, status: status_pb2.Status | None) -> EntropydError:
    """Restores the error from a gRPC status: name of its code, message, and `google.rpc.Status` if any.

    It is the error of the catalog that the details name, else the one that the code suggests, else a plain
    EntropydError of that code.
    """
    reason, metadata, violations, retry_after_s = None, {}, [], None
    for packed in status.details if status is not None else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        bad_request = error_details_pb2.BadRequest()
        try:
            if packed.Unpack(info) and info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif packed.Unpack(bad_request):
                violations = [Violation(v.field, v.description) for v in bad_request.field_violations]
            elif packed.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        except DecodeError:
            continue  # the code and the message still count
    known = _BY_REASON.get(reason) if reason is not None else None
    error_type = known or _BY_CODE.get(code)
    if error_type is None:
        # The code alone does not say what happened, so no class that would is claimed.
        error = EntropydError(message, reason=code, metadata=metadata)
        error.code = code
        return error
    return error_type(
        message,
        reason=reason if known else None,
        metadata=metadata,
        violations=violations,
        retry_after_s=retry_after_s,
    )
