"""Runs a server in a process of its own: for programs, notebooks, tests and benchmarks.

Invariant: leaving the `with` block ends the process, even after an exception; so does the end of the program,
however it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from typing_extensions import Self

# What a server logs when it has its address.
_LISTENING = re.compile(r"listening on (\S+:\d+) with roles")
_POLL_S = 0.02
# A start with compiled kernels has ended by then, and TensorFlow's nearly always.
_SILENT_S = 15.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


class LocalServer:
    """An `entropyd-server` in a process of its own, from the beginning of a `with` block to its end.

    Args:
      flags: Flags of the command, as in `"--role", "coding"`.
      listen: Address to listen on, HOST:PORT, where port 0 is any free one; None for a Unix socket that only
        this user can reach.
      store: Folder or URL of the models, as for `--store`; None for a folder that is deleted with the server.
      credentials: Channel credentials for a server with TLS; None for plain text.
      wait: Whether entering the `with` block waits for the server to be SERVING.

    Attributes:
      target: The address for clients.
      process: The running process.
      log_path: The server's log.
    """

    _program: tuple[str, ...] = (sys.executable, "-m", "entropyd_server")

    def __init__(
        self,
        *flags: str,
        listen: str | None = None,
        store: str | os.PathLike[str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        wait: bool = True,
    ) -> None:
        self._flags = flags
        self._listen = listen
        self._store = store
        self._credentials = credentials
        self._wait = wait

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="entropyd-")
        folder = Path(self._folder.name)
        self.target = self._listen or f"unix:{folder}/socket"
        self.log_path = folder / "log"
        command = [*self._program, "--listen", self.target]
        # Before the caller's flags, which override these.
        command += ["--metrics-listen", "", "--drain-seconds", "0"]
        command += ["--store", os.fspath(self._store or folder / "store"), *self._flags]
        with self.log_path.open("w") as log:
            # The system closes our end of its input when this process ends. A variable, which a `_program` of
            # a version without this flag ignores.
            environment = {**os.environ, "ENTROPYD_END_WITH_INPUT": "1"}
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        try:
            if self.target.endswith(":0"):
                self.target = self._bound()
            if self._wait:
                self.wait_until_serving()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def wait_until_serving(self, service: str = "", timeout_s: float = 240.0) -> None:
        """Waits until a service is SERVING; by default, until all are.

        Raises:
          RuntimeError: If the process ends or the time is up first; the message has the server's log.
        """
        until = time.monotonic() + timeout_s
        tell_at = time.monotonic() + _SILENT_S
        request = health_pb2.HealthCheckRequest(service=service)
        with self._channel() as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while self.process.poll() is None and time.monotonic() < until:
                if time.monotonic() > tell_at and sys.stderr.isatty():
                    sys.stderr.write("the server starts; the first time, that takes a minute of compiling\n")
                    tell_at = until
                # A new watch every few seconds, to notice that the process has ended.
                with contextlib.suppress(grpc.RpcError):
                    for response in health.Watch(request, timeout=2, wait_for_ready=True):
                        if response.status == _SERVING:
                            return
        raise self._failed(f"is not SERVING after {timeout_s:g} s")

    def _bound(self, timeout_s: float = 60.0) -> str:
        """The address with the port that the system chose; raises as `wait_until_serving`."""
        until = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < until:
            if found := _LISTENING.search(self.log_path.read_text()):
                return found[1]
            time.sleep(_POLL_S)
        raise self._failed("has not logged its port, which takes --log-level info")

    def _failed(self, what: str) -> RuntimeError:
        status = self.process.poll()
        what = what if status is None else f"ended with status {status}"
        return RuntimeError(f"the server {what}:\n{self.log_path.read_text()}")

    def _channel(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self.target)
        return grpc.secure_channel(self.target, self._credentials)

    def stop(self) -> int:
        """Makes the server drain and end, unless it has ended, and returns its exit status."""
        with self.process:  # whose input is closed after that
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            return self.process.wait()
