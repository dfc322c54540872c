"""The arguments of a client, and the constructor of the blocking and the asynchronous one.

Invariant: settings that were pickled hold nothing secret, and unpickling them cannot fail: programs that send
work to other processes often cannot report an error there.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import grpc

from entropyd._caller import Caller
from entropyd._credentials import TlsCredentials, Token, TokenFile, check_token, token_of
from entropyd.contract.address import check_target

if TYPE_CHECKING:
    from typing_extensions import Self

Wire: TypeAlias = Literal["auto", "symbols", "float"]


@dataclass(frozen=True)
class Settings:
    """Arguments of a client; see `entropyd.Client`."""

    target: str
    credentials: grpc.ChannelCredentials | None
    token: Token = field(repr=False)
    timeout_s: float | None
    tracing: bool
    wire: Wire = "auto"

    def check(self) -> None:
        """Refuses wrong arguments before the first call; errors as entropyd.Client."""
        check_target(self.target)
        if self.wire not in get_args(Wire):
            raise ValueError(f"wire is {self.wire!r}; expected one of {', '.join(get_args(Wire))}")
        check_token(self.target, self.credentials, self.token)
        self.caller()

    def caller(self) -> Caller:
        return Caller(self.target, self.token, self.timeout_s, tracing=self.tracing)

    def files(self) -> Any:
        """State of the credentials' files; see TlsCredentials.state."""
        return self.credentials.state() if isinstance(self.credentials, TlsCredentials) else None

    @property
    def token_may_change(self) -> bool:
        """Whether the next call may send another token than the last one."""
        return callable(self.token)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled; TypeError for credentials that cannot or should not be."""
        if not isinstance(self.credentials, (TlsCredentials, type(None))):
            raise TypeError(
                "cannot pickle a client with gRPC's own credentials, which cannot be read back; "
                "entropyd.tls_credentials makes some that are pickled as the paths of their files"
            )
        if isinstance(self.token, str):
            raise TypeError(
                "cannot pickle a client whose token was given as text, which would end up wherever the "
                "pickle does; give it token_file=PATH, or token=FUNCTION with a function of a module"
            )
        if self.token is not None and not isinstance(self.token, TokenFile):
            try:
                pickle.dumps(self.token)
            except Exception as error:  # pickle's errors are of several types
                raise TypeError(
                    f"cannot pickle a client whose token is a function that cannot be pickled ({error}); "
                    "give it token_file=PATH, or a function of a module"
                ) from error
        return dict(self.__dict__)


class ClientBase:
    """Makes a session from the arguments of a client."""

    _new_session: ClassVar[Any]  # the class of the session
    _session: Any

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Callable[[], str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        timeout_s: float | None = 60.0,
        tracing: bool = False,
        wire: Wire = "auto",
    ) -> None:
        settings = Settings(target, credentials, token_of(token, token_file), timeout_s, tracing, wire)
        settings.check()
        self._session = self._new_session(settings)

    @classmethod
    def _of(cls, session: Any) -> Self:
        client = cls.__new__(cls)
        client._session = session  # noqa: SLF001 - its own
        return client

    def __reduce__(self) -> tuple[Any, ...]:
        return self._of, (self._session,)

    def __copy__(self) -> Self:
        return self._of(copy(self._session))
