"""Laws of the error catalog: every error crosses the network unchanged, and every status has an error."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

import entropyd
from entropyd.contract import errors
from entropyd.contract.errors import (
    CATALOG,
    CODES,
    DOMAIN,
    CorruptStringError,
    EntropydError,
    IndexesMismatchError,
    Violation,
    from_status,
    to_status,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VIOLATIONS = st.lists(st.builds(Violation, TEXT, TEXT), max_size=3)
RETRY = st.none() | st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000)
ALL_CODES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

# The table of the service's documentation: exception, code, reasons.
TABLE = [
    (entropyd.InvalidConfigError, "INVALID_ARGUMENT", ["INVALID_CONFIG"]),
    (entropyd.InvalidTensorError, "INVALID_ARGUMENT", ["INVALID_TENSOR"]),
    (entropyd.InvalidRequestError, "INVALID_ARGUMENT", ["INVALID_REQUEST"]),
    (entropyd.CorruptStringError, "INVALID_ARGUMENT", ["CORRUPT_STRING"]),
    (entropyd.ModelNotFoundError, "NOT_FOUND", ["MODEL_NOT_FOUND"]),
    (entropyd.TablesMismatchError, "FAILED_PRECONDITION", ["TABLES_MISMATCH"]),
    (entropyd.IndexesMismatchError, "FAILED_PRECONDITION", ["INDEXES_MISMATCH"]),
    (
        entropyd.ModelStateError,
        "FAILED_PRECONDITION",
        ["MODEL_NOT_COMPRESSING", "MODEL_WITHOUT_PRIOR", "MODEL_WITHOUT_TABLES", "NAME_MOVED"],
    ),
    (entropyd.LimitExceededError, "INVALID_ARGUMENT", ["LIMIT_EXCEEDED"]),
    (entropyd.OverloadedError, "RESOURCE_EXHAUSTED", ["OVERLOADED"]),
    (entropyd.UnavailableError, "UNAVAILABLE", ["STARTING", "DRAINING", "WORKER_LOST"]),
    (entropyd.DeadlineExceededError, "DEADLINE_EXCEEDED", ["DEADLINE"]),
    (entropyd.UnauthenticatedError, "UNAUTHENTICATED", []),
    (entropyd.PermissionDeniedError, "PERMISSION_DENIED", []),
    (entropyd.DataLossError, "DATA_LOSS", ["MODEL_DAMAGED"]),
]


def across(error: EntropydError) -> EntropydError:
    """The error that a client restores from what a server sends."""
    status = status_pb2.Status.FromString(to_status(error).SerializeToString())
    return from_status(error.code, status.message, status)


def state(error: EntropydError) -> tuple[Any, ...]:
    return (
        type(error),
        error.code,
        error.reason,
        error.message,
        str(error),
        error.metadata,
        error.violations,
        error.retry_after_s,
        getattr(error, "units", None),
    )


@given(
    st.sampled_from([(error, reason) for error in CATALOG for reason in error.reasons]),
    TEXT,
    st.dictionaries(TEXT, TEXT, max_size=3),
    VIOLATIONS,
    RETRY,
)
def test_an_error_survives_the_network(
    kind: tuple[type[EntropydError], str],
    message: str,
    metadata: dict[str, str],
    violations: list[Violation],
    retry_after_s: float | None,
) -> None:
    error_type, reason = kind
    metadata.pop("units", None)
    error = error_type(
        message, reason=reason, metadata=metadata, violations=violations, retry_after_s=retry_after_s
    )
    assert state(across(error)) == state(error)


@pytest.mark.parametrize("error_type", [CorruptStringError, IndexesMismatchError])
@given(units=st.lists(st.integers(0, 2**63), max_size=5))
def test_the_units_that_an_error_names_survive_the_network(
    error_type: type[CorruptStringError | IndexesMismatchError], units: list[int]
) -> None:
    error = error_type("bad", units=units)
    assert error.units == tuple(units)
    assert state(across(error)) == state(error)


@pytest.mark.parametrize(("error_type", "code", "reasons"), TABLE)
def test_a_case_has_the_code_and_the_reasons_that_are_documented(
    error_type: type[EntropydError], code: str, reasons: list[str]
) -> None:
    assert error_type.code == code
    assert set(reasons) <= set(error_type.reasons)


def test_a_reason_names_one_error() -> None:
    reasons = [reason for error in CATALOG for reason in error.reasons]
    assert len(reasons) == len(set(reasons))


def test_every_code_of_the_catalog_is_a_grpc_code() -> None:
    assert {error.code for error in CATALOG} == set(CODES)


def test_the_catalog_is_complete_and_public() -> None:
    tree = [
        value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, EntropydError) and not name.startswith("_")
    ]
    assert set(CATALOG) == set(tree) - {EntropydError}
    assert {error.__name__ for error in tree} <= set(entropyd.__all__)


@pytest.mark.parametrize("code", ALL_CODES)
def test_a_status_without_details_is_an_error_of_the_same_code(code: str) -> None:
    error = from_status(code, "from a proxy", None)
    assert error.message == "from a proxy"
    assert error.reason in {*type(error).reasons, code}
    # gRPC's own RESOURCE_EXHAUSTED is a message above the transport's limit.
    assert error.code == {"RESOURCE_EXHAUSTED": "INVALID_ARGUMENT"}.get(code, code)


def test_an_invalid_argument_without_details_claims_no_particular_argument() -> None:
    assert type(from_status("INVALID_ARGUMENT", "no", None)) is entropyd.InvalidRequestError


def status_with(*details: Any) -> status_pb2.Status:
    status = status_pb2.Status()
    for detail in details:
        status.details.add().Pack(detail)
    return status


def test_details_of_another_domain_name_no_error_of_ours() -> None:
    info = error_details_pb2.ErrorInfo(reason="MODEL_DAMAGED", domain="example.com", metadata={"a": "b"})
    error = from_status("UNAVAILABLE", "proxy", status_with(info))
    assert type(error) is entropyd.UnavailableError
    assert error.metadata == {}


def test_a_reason_of_a_newer_server_falls_back_to_the_code() -> None:
    info = error_details_pb2.ErrorInfo(reason="NOT_INVENTED_YET", domain=DOMAIN, metadata={"a": "b"})
    error = from_status("NOT_FOUND", "gone", status_with(info))
    assert error.code == "NOT_FOUND"
    assert error.metadata == {"a": "b"}


@given(
    st.sampled_from(ALL_CODES) | TEXT,
    st.lists(
        st.builds(
            any_pb2.Any,
            type_url=st.sampled_from(["ErrorInfo", "BadRequest", "RetryInfo", "Help"]).map(
                lambda name: f"type.googleapis.com/google.rpc.{name}"
            ),
            value=st.binary(max_size=24),
        ),
        max_size=3,
    ),
)
def test_any_status_is_an_error_of_ours(code: str, details: list[any_pb2.Any]) -> None:
    error = from_status(code, "message", status_pb2.Status(details=details))
    assert isinstance(error, EntropydError)
    assert error.message == "message"


@given(TEXT)
def test_units_that_are_no_numbers_are_left_out(units: str) -> None:
    info = error_details_pb2.ErrorInfo(reason="CORRUPT_STRING", domain=DOMAIN, metadata={"units": units})
    error = from_status("INVALID_ARGUMENT", "bad", status_with(info))
    assert isinstance(error, CorruptStringError)
    assert all(isinstance(unit, int) for unit in error.units)


@given(st.lists(st.builds(Violation, TEXT, TEXT), min_size=1, max_size=3))
def test_the_message_of_violations_lists_them_all(violations: list[Violation]) -> None:
    error = entropyd.InvalidConfigError.of(violations)
    assert error.message == "; ".join(f"{v.field} {v.description}" for v in violations)
    assert error.violations == tuple(violations)
