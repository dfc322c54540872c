"""The constructor of the blocking and the asynchronous client."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from entropyd._credentials import token_of
from entropyd._settings import Settings

if TYPE_CHECKING:
    from typing_extensions import Self


class ClientBase:
    """Makes a session from the arguments of a client."""

    _new_session: ClassVar[Any]
    """The class of the session."""
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
    ) -> None:
        settings = Settings(target, credentials, token_of(token, token_file), timeout_s, tracing)
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
