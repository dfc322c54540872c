"""What the blocking and the asynchronous client share: settings, and a channel that is opened on first use.

A client is pickled as its settings, so it arrives as one that connects anew. Invariant: making a client of
settings that were pickled does nothing that can fail, as programs that hand out work often cannot report it;
and no process uses the channel of another one, as one that was forked would.
"""

from __future__ import annotations

import os
import pickle
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from entropyd import _channel
from entropyd._caller import Caller
from entropyd._credentials import TlsCredentials, TokenFile, check_token
from entropyd._tracing import spans
from entropyd.v1 import coding_pb2_grpc, info_pb2_grpc, model_pb2_grpc

if TYPE_CHECKING:
    import grpc
    from typing_extensions import Self

    from entropyd._calls import ServerInfo
    from entropyd._credentials import Token


@dataclass(frozen=True)
class Settings:
    """Arguments of a client; see `entropyd.Client`."""

    target: str
    credentials: grpc.ChannelCredentials | None
    token: Token = field(repr=False)
    timeout_s: float
    tracing: bool

    def check(self) -> None:
        """Makes sure of them before the first call.

        Raises:
          OSError, ValueError: As entropyd.Client.
          ImportError: To trace without the opentelemetry-api package.
        """
        check_token(self.target, self.credentials, self.token)
        spans(tracing=self.tracing)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled.

        Raises:
          TypeError: For credentials that cannot travel, or should not.
        """
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


class _Open(NamedTuple):
    """A channel, and what makes calls over it."""

    process: int
    channel: Any
    caller: Caller
    coding: Any
    models: Any
    info: Any


class BaseClient:
    """Settings, and what they make on first use."""

    _grpc: ClassVar[Any]
    """The module that opens channels: `grpc` or `grpc.aio`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._channels: list[_Open] = []
        self._closed = False
        self._server_info: ServerInfo | None = None
        self._server_info_lock = threading.Lock()

    @property
    def _caller(self) -> Caller:
        return self._opened().caller

    @property
    def _coding(self) -> Any:
        return self._opened().coding

    @property
    def _models(self) -> Any:
        return self._opened().models

    @property
    def _info(self) -> Any:
        return self._opened().info

    def __reduce__(self) -> tuple[Any, ...]:
        return self._of, (self._settings,)

    def __copy__(self) -> Self:
        return self._of(self._settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # In this process, where credentials need not travel.
        return self._of(self._settings)

    @classmethod
    def _of(cls, settings: Settings) -> Self:
        client = cls.__new__(cls)
        BaseClient.__init__(client, settings)
        return client

    def _opened(self) -> _Open:
        """The channel of this process, opened if there is none yet.

        Raises:
          OSError: If files of credentials cannot be read.
          ValueError: If the client was closed.
        """
        opened = self._current()
        if opened is None:
            with self._lock:
                opened = self._current()
                if opened is None:
                    opened = self._open()
                    self._channels.append(opened)
        return opened

    def _current(self) -> _Open | None:
        """The channel of this process, None if there is none yet."""
        if self._closed:
            raise ValueError("the client is closed")
        # Those of a parent process are kept, as letting go of one would end the parent's connection.
        opened = self._channels[-1] if self._channels else None
        return opened if opened is not None and opened.process == os.getpid() else None

    def _shut(self) -> list[Any]:
        """Lets no call begin any more; returns the channels to close."""
        with self._lock:
            self._closed = True
            return [opened.channel for opened in self._channels if opened.process == os.getpid()]

    def _open(self) -> _Open:
        settings = self._settings
        channel = (
            self._grpc.insecure_channel(settings.target, _channel.OPTIONS)
            if settings.credentials is None
            else self._grpc.secure_channel(settings.target, settings.credentials, _channel.OPTIONS)
        )
        return _Open(
            os.getpid(),
            channel,
            Caller(settings.token, settings.timeout_s, tracing=settings.tracing),
            coding_pb2_grpc.CodingServiceStub(channel),
            model_pb2_grpc.ModelServiceStub(channel),
            info_pb2_grpc.InfoServiceStub(channel),
        )
