"""Which call needs which scope, and whose call it is.

Owns the table of methods. It must not know how tokens are kept or how a call is refused. Invariant: a method
that is not in the table is allowed to nobody.
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

# Any one of the scopes will do. Who codes may read the models that it codes with; listing them, and reading
# what training needs of them, belongs to those who make models.
METHOD_SCOPES: dict[str, frozenset[Scope]] = {
    "/entropyd.v1.CodingService/Compress": _CODE,
    "/entropyd.v1.CodingService/CompressStream": _CODE,
    "/entropyd.v1.CodingService/Decompress": _CODE,
    "/entropyd.v1.CodingService/DecompressStream": _CODE,
    "/entropyd.v1.InfoService/GetServerInfo": _ANY,
    "/entropyd.v1.ModelService/CreateModel": _MODEL,
    "/entropyd.v1.ModelService/DeleteModel": _ADMIN,
    "/entropyd.v1.ModelService/ExportModel": _ANY,
    "/entropyd.v1.ModelService/FitModel": _MODEL,
    "/entropyd.v1.ModelService/GetModel": _ANY,
    "/entropyd.v1.ModelService/GetTables": _ANY,
    "/entropyd.v1.ModelService/GetWeights": _MODEL,
    "/entropyd.v1.ModelService/ImportModel": _MODEL,
    "/entropyd.v1.ModelService/ListModels": _MODEL,
    "/entropyd.v1.ModelService/Perturb": _MODEL,
    "/entropyd.v1.ModelService/SetWeights": _MODEL,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANY,
}

# Whoever calls a server without tokens. No token's name begins so.
ANYBODY = Caller("_anybody", _ANY)


class Access:
    """Decides who may call what.

    Args:
      tokens: Gives the tokens that are in force; None where everybody may do everything.
    """

    def __init__(self, tokens: Callable[[], TokenBook] | None) -> None:
        self._tokens = tokens

    def caller(self, metadata: Iterable[tuple[str, Any]]) -> Caller:
        """Whose call this is, by its request metadata.

        Raises:
          UnauthenticatedError: If it carries no token, or one that is not in force.
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
        """Lets a call pass, or says why not.

        Args:
          method: Its path, as in `/entropyd.v1.InfoService/GetServerInfo`.
          metadata: Its request metadata.

        Raises:
          UnauthenticatedError: As `caller`.
          PermissionDeniedError: If the token has none of the scopes that the call needs.
        """
        if self._tokens is None:
            return
        caller = self.caller(metadata)
        needed = METHOD_SCOPES.get(method, frozenset())
        if not caller.scopes & needed:
            scopes = " or ".join(sorted(scope.value for scope in needed)) or "one that no token has"
            name = method.rpartition("/")[2]
            raise PermissionDeniedError(
                f"{name} needs scope {scopes}; this token lacks it",
                metadata={"method": name, "scopes": ",".join(sorted(scope.value for scope in needed))},
            )
