"""Laws of access: every method needs a scope, and a token does what its scopes say and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from grpc_reflection.v1alpha import reflection_pb2

from entropyd.contract.errors import PermissionDeniedError, UnauthenticatedError
from entropyd.v1 import coding_pb2, info_pb2, model_pb2
from entropyd_server.security.access import ANYBODY, METHOD_SCOPES, Access
from entropyd_server.security.tokens import Caller, Scope, TokenBook

FILES = (coding_pb2, info_pb2, model_pb2, reflection_pb2)
METHODS = {
    f"/{service.full_name}/{method.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
BOOK = TokenBook(
    (hashlib.sha256(scope.value.encode()).digest(), Caller(scope.value, frozenset({scope})))
    for scope in Scope
)
ACCESS = Access(lambda: BOOK)
READING = ("ExportModel", "GetModel", "GetTables", "ResolveModelName")
INFO = "/entropyd.v1.InfoService/GetServerInfo"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("user-agent", "a test"), ("authorization", f"Bearer {token}"))


def allowed(scope: Scope, method: str) -> bool:
    try:
        ACCESS.check(method, bearer(scope.value))
    except PermissionDeniedError:
        return False
    return True


def test_no_method_lacks_a_scope() -> None:
    assert set(METHOD_SCOPES) == METHODS


def test_admin_may_do_everything() -> None:
    assert all(allowed(Scope.ADMIN, method) for method in METHODS)


def test_deleting_is_for_admins_alone() -> None:
    delete = "/entropyd.v1.ModelService/DeleteModel"
    assert [scope for scope in Scope if allowed(scope, delete)] == [Scope.ADMIN]


def test_coding_is_not_for_who_makes_models_nor_the_other_way_round() -> None:
    coding = {method for method in METHODS if "CodingService" in method}
    reading = {f"/entropyd.v1.ModelService/{name}" for name in READING}
    anyone = {method for method in METHODS if "ModelService" not in method} - coding
    assert {method for method in METHODS if allowed(Scope.CODE, method)} == coding | reading | anyone
    models = {
        method for method in METHODS if "ModelService" in method and not method.endswith("/DeleteModel")
    }
    assert {method for method in METHODS if allowed(Scope.MODEL, method)} == models | anyone


def test_a_method_that_nobody_thought_of_is_allowed_to_nobody() -> None:
    assert not any(allowed(scope, "/entropyd.v1.CodingService/New") for scope in Scope)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "MISSING_CREDENTIALS"),
        ((("entropyd-model", "code"),), "MISSING_CREDENTIALS"),
        (bearer("nobody"), "INVALID_CREDENTIALS"),
        (bearer(""), "INVALID_CREDENTIALS"),
        (bearer(" code"), "INVALID_CREDENTIALS"),
        (bearer("code "), "INVALID_CREDENTIALS"),
        ((("authorization", "code"),), "INVALID_CREDENTIALS"),
        ((("authorization", "Basic code"),), "INVALID_CREDENTIALS"),
        (bearer("code") + bearer("code"), "INVALID_CREDENTIALS"),
        ((("authorization", b"Bearer code"),), "INVALID_CREDENTIALS"),
    ],
)
def test_without_a_token_in_force_nobody_gets_in(metadata: tuple[tuple[str, str]], reason: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        ACCESS.check(INFO, metadata)
    assert caught.value.reason == reason


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_known_in_any_case(scheme: str) -> None:
    assert ACCESS.caller((("authorization", f"{scheme} code"),)).name == "code"


def test_a_server_without_tokens_lets_everybody_do_everything() -> None:
    for method in METHODS:
        Access(None).check(method, ())
    assert Access(None).caller(()) is ANYBODY
