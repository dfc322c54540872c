"""Runs a server in a process of its own: for examples, notebooks, tests and benchmarks.

Invariant: leaving the `with` block ends the process, even after an exception.
"""

from __future__ import annotations

import contextlib
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

_SERVING = health_pb2.HealthCheckResponse.SERVING


class LocalServer:
    """An `entropyd-server` in a process of its own.

    Args:
      flags: Flags of the command, as in `"--role", "coding"`.
      listen: Address to listen on, HOST:PORT; None for a Unix socket.
      store: URL of the store; None for a folder that is deleted with the server.
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
        store: str | None = None,
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
        command += ["--store", self._store or (folder / "store").as_uri(), *self._flags]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own command
        if self._wait:
            try:
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
        request = health_pb2.HealthCheckRequest(service=service)
        with self._channel() as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while self.process.poll() is None and time.monotonic() < until:
                # A new watch every few seconds, to notice that the process has ended.
                with contextlib.suppress(grpc.RpcError):
                    for response in health.Watch(request, timeout=2, wait_for_ready=True):
                        if response.status == _SERVING:
                            return
        status = self.process.poll()
        what = f"is not SERVING after {timeout_s:g} s" if status is None else f"ended with status {status}"
        raise RuntimeError(f"the server {what}:\n{self.log_path.read_text()}")

    def _channel(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self.target)
        return grpc.secure_channel(self.target, self._credentials)

    def stop(self) -> int:
        """Makes the server drain and end, unless it has ended, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait()
