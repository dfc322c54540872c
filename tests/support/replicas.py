"""Servers on one store, each at an address that outlives its process.

Leaving `start_replicas` ends every process.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from entropyd_server.local import LocalServer
from tests.support.interpreters import CODING_SERVER
from tests.support.load import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CALLS_WITHIN_S = 60.0


class _CodingServer(LocalServer):
    _program = CODING_SERVER


class Replica:
    """A server of a set, with the coding role unless flags say otherwise.

    Args:
      port: Where it listens.
      metrics_port: Where it answers scrapes.
      store_url: Its store.
      stack: What ends its process at the latest.
      flags: Further flags of the command.

    Attributes:
      address: HOST:PORT.
    """

    def __init__(
        self, port: int, metrics_port: int, store_url: str, stack: ExitStack, flags: Sequence[str] = ()
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self._metrics = f"127.0.0.1:{metrics_port}"
        self._store_url = store_url
        self._stack = stack
        self._flags = flags
        self.start()

    def start(self) -> None:
        """Starts a process, with an empty cache; `wait` says when it serves."""
        flags = ["--role", "coding", "--drain-seconds", "1", "--metrics-listen", self._metrics]
        server = _CodingServer(*flags, *self._flags, listen=self.address, store=self._store_url, wait=False)
        self._server = self._stack.enter_context(server)

    def wait(self) -> None:
        """Waits until it serves."""
        self._server.wait_until_serving()

    @property
    def pid(self) -> int:
        """The id of its process, or of its last one."""
        return self._server.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has no process now."""
        return self._server.process.poll() is not None

    def kill(self) -> None:
        """Kills its process."""
        self._server.process.send_signal(signal.SIGKILL)
        self._server.process.wait()

    def stop(self) -> None:
        """Lets it drain and end."""
        assert self._server.stop() == 0

    def restart(self) -> None:
        """Lets it drain and end, and puts a new process in its place."""
        self.stop()
        self.start()
        self.wait()

    def sample(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have `labels`."""
        with urlopen(f"http://{self._metrics}/metrics") as reply:
            text = reply.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_for_calls(self) -> None:
        """Waits until it has answered a call."""
        until = time.monotonic() + _CALLS_WITHIN_S
        while not self.sample("entropyd_requests_total", code="OK"):
            assert time.monotonic() < until, f"{self.address} was not called"
            time.sleep(0.05)


@contextmanager
def start_replicas(count: int, store_url: str, *flags: str) -> Iterator[list[Replica]]:
    """Starts that many at the same time, with further flags, and waits until all serve."""
    ports = free_ports(2 * count)
    with ExitStack() as stack:
        replicas = [
            Replica(port, metrics_port, store_url, stack, flags)
            for port, metrics_port in zip(ports[:count], ports[count:], strict=True)
        ]
        try:
            for replica in replicas:
                replica.wait()
            yield replicas
        finally:
            for replica in replicas:
                replica.kill()  # nobody calls any more: no need to wait for drains, one after the other
