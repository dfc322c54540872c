"""Which call needs which scope, and who makes a call.

Invariant: nobody may call a method that is not in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from entropyd.contract.errors import PermissionDeniedError, UnauthenticatedError
from entropyd_server.security.tokens import Caller, Scope, TokenBook

_SCHEME = "bearer "
_ADMIN = frozenset({Scope.ADMIN})
_MODEL = _ADMIN | {Scope.MODEL}
_CODE = _ADMIN | {Scope.CODE}
_ANY = frozenset(Scope)

# A call needs one of its method's scopes. A caller that codes may read the models that it codes with; listing
# models, and reading their weights, is for callers that make models.
METHOD_SCOPES: dict[str, frozenset[Scope]] = {
    "/entropyd.v1.CodingService/Compress": _CODE,
    "/entropyd.v1.CodingService/CompressStream": _CODE,
    "/entropyd.v1.CodingService/Decompress": _CODE,
    "/entropyd.v1.CodingService/DecompressStream": _CODE,
    "/entropyd.v1.InfoService/GetServerInfo": _ANY,
    "/entropyd.v1.ModelService/CreateModel": _MODEL,
    "/entropyd.v1.ModelService/DeleteModel": _ADMIN,
    "/entropyd.v1.ModelService/DeleteModelName": _MODEL,
    "/entropyd.v1.ModelService/ExportModel": _ANY,
    "/entropyd.v1.ModelService/FitModel": _MODEL,
    "/entropyd.v1.ModelService/GetModel": _ANY,
    "/entropyd.v1.ModelService/GetTables": _ANY,
    "/entropyd.v1.ModelService/GetWeights": _MODEL,
    "/entropyd.v1.ModelService/ImportModel": _MODEL,
    "/entropyd.v1.ModelService/ListModelNames": _MODEL,
    "/entropyd.v1.ModelService/ListModels": _MODEL,
    "/entropyd.v1.ModelService/Perturb": _MODEL,
    "/entropyd.v1.ModelService/ResolveModelName": _ANY,
    "/entropyd.v1.ModelService/SetModelName": _MODEL,
    "/entropyd.v1.ModelService/SetWeights": _MODEL,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANY,
}

# Every caller of a server without tokens; the name of a token cannot begin with "_".
ANYBODY = Caller("_anybody", _ANY)


class Access:
    """Decides who may call what.

    Args:
      tokens: Returns the valid tokens; None if everybody may do everything.
    """

    def __init__(self, tokens: Callable[[], TokenBook] | None) -> None:
        self._tokens = tokens

    def caller(self, metadata: Iterable[tuple[str, Any]]) -> Caller:
        """Returns who makes a call with this metadata.

        Raises:
          UnauthenticatedError: If there is no token, or it is not valid.
        """
        if self._tokens is None:
            return ANYBODY
        given = [value for key, value in metadata if key == "authorization"]
        if not given:
            raise UnauthenticatedError(
                "this server needs a token; send it as `authorization: Bearer TOKEN`",
                reason="MISSING_CREDENTIALS",
            )
        value = given[0]
        if len(given) == 1 and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
            caller = self._tokens().caller(value[len(_SCHEME) :])
            if caller is not None:
                return caller
        raise UnauthenticatedError("the token is not valid here", reason="INVALID_CREDENTIALS")

    def check(self, method: str, metadata: Iterable[tuple[str, Any]]) -> None:
        """Checks that a caller may call the method with this path: `/entropyd.v1.InfoService/GetServerInfo`.

        Raises:
          UnauthenticatedError: As `caller`.
          PermissionDeniedError: If the token has none of the scopes that the call needs.
        """
        if self._tokens is None:
            return
        caller = self.caller(metadata)
        needed = METHOD_SCOPES.get(method, frozenset())
        if not caller.scopes & needed:
            scopes, name = sorted(scope.value for scope in needed), method.rpartition("/")[2]
            raise PermissionDeniedError(
                f"{name} needs scope {' or '.join(scopes) or 'one that no token has'}; this token lacks it",
                metadata={"method": name, "scopes": ",".join(scopes)},
            )
