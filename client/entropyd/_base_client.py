"""What the blocking and the asynchronous client share: settings, and a channel that is opened on first use.

A client is pickled as its settings, so it arrives as one that connects anew. Invariant: making a client of
settings that were pickled does nothing that can fail, as programs that hand out work often cannot report it;
no process uses the channel of another one, as one that was forked would; and a call that begins after files
of credentials changed is made with what they hold then.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from entropyd import _channel
from entropyd._caller import Caller, closed
from entropyd._credentials import TlsCredentials, TokenFile, check_token
from entropyd.contract.address import check_target
from entropyd.v1 import coding_pb2_grpc, info_pb2_grpc, model_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    timeout_s: float | None
    tracing: bool

    def check(self) -> None:
        """Makes sure of them before the first call.

        Raises:
          OSError, ValueError: As entropyd.Client.
          ImportError: To trace without the opentelemetry-api package.
        """
        check_target(self.target)
        check_token(self.target, self.credentials, self.token)
        self.caller()

    def caller(self) -> Caller:
        """What surrounds the calls of a client with these settings; errors as `check`."""
        return Caller(self.target, self.token, self.timeout_s, tracing=self.tracing)

    def files(self) -> Any:
        """What changes with the files of credentials; see TlsCredentials.state."""
        return self.credentials.state() if isinstance(self.credentials, TlsCredentials) else None

    @property
    def token_may_change(self) -> bool:
        """Whether another token may be shown in the next call than in the last one."""
        return callable(self.token)

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


@dataclass(eq=False)
class Opened:
    """A channel, and what makes calls over it."""

    process: int
    files: Any  # TlsCredentials.state() of before the files were read
    channel: Any
    caller: Caller
    probe: Any
    probing: Any  # a lock: one call probes at a time
    coding: Any
    models: Any
    info: Any
    probed_at: float | None = None
    unreachable: grpc.RpcError | None = None  # why, if the last probe said so


class BaseClient:
    """Settings, and what they make on first use."""

    _grpc: ClassVar[Any]
    """The module that opens channels: `grpc` or `grpc.aio`."""
    _new_lock: ClassVar[Any]
    """The class of locks: threading's or asyncio's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._channel: Opened | None = None
        # Replaced ones are closed when the last call over them ends and lets go of them.
        self._replaced: weakref.WeakSet[Opened] = weakref.WeakSet()
        # Those of a parent process are kept, as letting go of one would end the parent's connection.
        self._inherited: list[Opened] = []
        self._renewed_at: float | None = None
        self._closed = False
        self._server_info: ServerInfo | None = None
        self._server_info_lock = threading.Lock()

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

    def _opened(self) -> Opened:
        """The channel of this process and of the credentials' files as they are, opened if there is none.

        While the files cannot be used, as for a moment in which they are replaced, it is the one before.

        Raises:
          OSError, ValueError: If files of credentials cannot be used, and never could.
          CancelledError: If the client was closed.
        """
        opened = self._latest()
        if opened is None or opened.files != self._settings.files():
            with self._lock:
                opened = self._latest()
                if opened is None or opened.files != self._settings.files():
                    try:
                        opened = self._replace(self._open())
                    except (OSError, ValueError):
                        if opened is None:
                            raise
        return opened

    def _latest(self) -> Opened | None:
        """The channel that this process opened last, None if there is none."""
        if self._closed:
            raise closed()
        opened = self._channel
        return opened if opened is not None and opened.process == os.getpid() else None

    def _replace(self, opened: Opened) -> Opened:
        """Makes further calls go over another channel; returns it."""
        before = self._channel
        if before is not None and before.process == opened.process:
            self._replaced.add(before)
        elif before is not None:
            self._inherited.append(before)
        self._channel = opened
        return opened

    def _needs_probe(self, opened: Opened) -> bool:
        """Whether the last probes of a channel are too old to judge it by."""
        return opened.probed_at is None or time.monotonic() - opened.probed_at > _channel.PROBE_AGE_S

    def _judge(self, opened: Opened, failures: Sequence[grpc.RpcError]) -> None:
        """Records failed probes; opens another channel if one of them had no answer either.

        A connection that is healthy but slow may look silent, so this happens once in RENEWAL_S at most.
        """
        now = opened.probed_at = time.monotonic()
        codes = [_channel.status_code(failure) for failure in failures]
        unreachable = (
            failure for failure, code in zip(failures, codes, strict=True) if code == "UNAVAILABLE"
        )
        opened.unreachable = next(unreachable, None)
        if "DEADLINE_EXCEEDED" not in codes:
            return
        with self._lock:
            renewable = self._renewed_at is None or now - self._renewed_at > _channel.RENEWAL_S
            if renewable and self._latest() is opened:
                self._replace(self._open(new_connections=True))
                self._renewed_at = now

    def _shut(self) -> list[Any]:
        """Lets no call begin any more; returns the channels to close."""
        with self._lock:
            self._closed = True
            opened = [*self._replaced, *([] if self._channel is None else [self._channel])]
        ours = [one for one in opened if one.process == os.getpid()]
        for one in ours:
            one.caller.close()
        return [one.channel for one in ours]

    def _open(self, *, new_connections: bool = False) -> Opened:
        settings = self._settings
        options = _channel.options(settings.target, new_connections=new_connections)
        files, credentials = settings.files(), settings.credentials
        if isinstance(credentials, TlsCredentials):
            credentials = credentials.read_again()
        channel = (
            self._grpc.insecure_channel(settings.target, options)
            if credentials is None
            else self._grpc.secure_channel(settings.target, credentials, options)
        )
        return Opened(
            os.getpid(),
            files,
            channel,
            settings.caller(),
            channel.unary_unary(_channel.PROBE),
            self._new_lock(),
            coding_pb2_grpc.CodingServiceStub(channel),
            model_pb2_grpc.ModelServiceStub(channel),
            info_pb2_grpc.InfoServiceStub(channel),
        )
