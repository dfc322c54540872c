"""The channel of a session, which the first call opens.

It is replaced when credentials change or a connection is silent. A session is pickled as its settings, so a
copy connects anew. Invariants: a process never uses the channel of the process that it was forked from; a
call that begins after files of credentials changed uses the new ones; a channel that is replaced is closed
when the last call over it ends.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from entropyd import _channel
from entropyd._caller import Caller, closed, time_limit
from entropyd._credentials import TlsCredentials
from entropyd._info import ServerInfo
from entropyd._settings import Settings
from entropyd.contract.errors import PermissionDeniedError, UnimplementedError
from entropyd.contract.large_fields import ViewedMessage, take_out_large
from entropyd.v1 import coding_pb2, coding_pb2_grpc, info_pb2_grpc, model_pb2_grpc

if TYPE_CHECKING:
    from typing_extensions import Self


# What a server says that cannot describe itself or a model's tables to this caller.
NO_SYMBOLS = (UnimplementedError, PermissionDeniedError)

_NEXT_TO_NOTHING_S = 0.01
_LEAST_S = 0.001


@dataclass(eq=False)
class Opened:
    """A channel, and what makes calls over it.

    Attributes:
      process: Id of the process that opened it.
      files: TlsCredentials.state() before the files were read.
      channel: A channel of grpc or grpc.aio.
      caller: Gives calls their metadata and deadlines.
      methods: What gRPC calls a multi-callable, of each method by its name; unary ones take bytes.
      probe: The multi-callable of probes.
      probing: Lock, so that one call probes at a time.
      probed_at: End of the last probes, in seconds of the monotonic clock; None before the first ones.
      unreachable: The failure of the last probes, if they found no connection; else None.
    """

    process: int
    files: Any
    channel: Any
    caller: Caller
    methods: Mapping[str, Any]
    probe: Any
    probing: Any
    probed_at: float | None = None
    unreachable: grpc.RpcError | None = None


def _decompressed(data: bytes) -> Any:
    """Parses a DecompressResponse; a large array is a view of the received bytes."""
    rest, values = take_out_large(data, coding_pb2.DecompressResponse, (("tensor", "data"),))
    response = coding_pb2.DecompressResponse.FromString(rest)
    return ViewedMessage(response, values) if values else response


# Of methods whose responses protobuf's own classes do not read.
_READERS = {"/entropyd.v1.CodingService/Decompress": _decompressed}


class _SerialisedRequests:
    """A channel for stubs whose unary methods take serialised requests.

    A session looks at the size of a request before it sends it, and may send it twice.
    """

    def __init__(self, channel: Any) -> None:
        self.stream_stream = channel.stream_stream
        self._channel = channel

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        del request_serializer
        return self._channel.unary_unary(path, None, _READERS.get(path, response_deserializer))


class SessionBase:
    """Settings, and the channel that is opened with them."""

    _grpc: ClassVar[Any]  # the module that opens channels: `grpc` or `grpc.aio`
    _new_lock: ClassVar[Any]  # the class of locks: threading's or asyncio's

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._current: Opened | None = None
        # Only calls in flight hold a replaced channel: gRPC closes it when the last one lets go of it.
        self._replaced: weakref.WeakSet[Opened] = weakref.WeakSet()
        # Held for ever, because destroying a parent process's channel would end the parent's connection.
        self._inherited: list[Opened] = []
        self._renewed_at: float | None = None
        self._closed = False
        self._server_info: ServerInfo | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)

    def __copy__(self) -> Self:
        return type(self)(self.settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self.settings)  # also with credentials that cannot be pickled

    def _opened(self) -> Opened:
        """The channel of this process and of the credentials' files as they are, opened if there is none.

        While the files cannot be used, as during their replacement, it is the channel before.
        """
        opened = self._latest()
        if opened is None or opened.files != self.settings.files():
            with self._lock:
                opened = self._latest()
                if opened is None or opened.files != self.settings.files():
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
        opened = self._current
        return opened if opened is not None and opened.process == os.getpid() else None

    def _replace(self, opened: Opened) -> Opened:
        before = self._current
        if before is not None and before.process == opened.process:
            self._replaced.add(before)
        elif before is not None:
            self._inherited.append(before)
        self._current = opened
        return opened

    def _open(self, *, new_connections: bool = False) -> Opened:
        settings = self.settings
        options = _channel.options(settings.target, new_connections=new_connections)
        files, credentials = settings.files(), settings.credentials
        if isinstance(credentials, TlsCredentials):
            credentials = credentials.read_again()
        channel = (
            self._grpc.insecure_channel(settings.target, options)
            if credentials is None
            else self._grpc.secure_channel(settings.target, credentials, options)
        )
        serialised = _SerialisedRequests(channel)
        stubs = (
            coding_pb2_grpc.CodingServiceStub(serialised),
            model_pb2_grpc.ModelServiceStub(serialised),
            info_pb2_grpc.InfoServiceStub(serialised),
        )
        methods = {name: method for stub in stubs for name, method in vars(stub).items()}
        probe = channel.unary_unary(_channel.PROBE)
        return Opened(os.getpid(), files, channel, settings.caller(), methods, probe, self._new_lock())

    def _rest_s(self, timeout_s: float | None, began: float) -> float | None:
        """What is left of a call's time since `began`, of the monotonic clock; None for no limit.

        It stays what the caller gave while next to nothing of it is gone, so that errors name that.
        """
        limit_s = time_limit(self.settings.timeout_s if timeout_s is None else timeout_s)
        gone_s = time.monotonic() - began
        if limit_s is None or gone_s < _NEXT_TO_NOTHING_S:
            return timeout_s
        return max(limit_s - gone_s, _LEAST_S)

    def _needs_probe(self, opened: Opened) -> bool:
        return opened.probed_at is None or time.monotonic() - opened.probed_at > _channel.PROBE_AGE_S

    def _judge(self, opened: Opened, failures: Sequence[grpc.RpcError]) -> None:
        """Records failed probes; opens another channel if one of them had no answer either.

        At most once in RENEWAL_S: a connection that is slow, but healthy, may look silent.
        """
        now = opened.probed_at = time.monotonic()
        by_code = {_channel.status_code(failure): failure for failure in failures}
        opened.unreachable = by_code.get("UNAVAILABLE")
        if "DEADLINE_EXCEEDED" not in by_code:
            return
        with self._lock:
            renewable = self._renewed_at is None or now - self._renewed_at > _channel.RENEWAL_S
            if renewable and self._latest() is opened:
                with suppress(OSError, ValueError):  # of credentials' files, as in _opened
                    self._replace(self._open(new_connections=True))
                    self._renewed_at = now

    def _shut(self) -> list[Any]:
        """Makes further calls fail; returns the channels to close."""
        with self._lock:
            self._closed = True
            opened = [*self._replaced, *([] if self._current is None else [self._current])]
        ours = [one for one in opened if one.process == os.getpid()]
        for one in ours:
            one.caller.close()
        return [one.channel for one in ours]
