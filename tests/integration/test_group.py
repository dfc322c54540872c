"""A server of several processes: one port, the same strings, and an end of all of them together."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import grpc
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import entropyd
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.interpreters import CODING_SERVER
from tests.support.load import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

# By chance, all of them reach one process in one of 2^31 runs.
CONNECTIONS = 32


class Group(LocalServer):
    """A server of two processes, which build no tables."""

    _program = CODING_SERVER

    def __init__(self, store: str, listen: str = "127.0.0.1:0", *flags: str, wait: bool = True) -> None:
        flags = ("--processes", "2", "--role", "coding,registry", *flags)
        super().__init__(*flags, listen=listen, store=store, wait=wait)

    def wait_until_serving(self, service: str = "", timeout_s: float = 240.0) -> None:
        """Waits until both processes are SERVING."""
        self.wait_for_lines(f"CodingService{service} is SERVING", 2, timeout_s)

    def wait_for_lines(self, words: str, lines: int, timeout_s: float = 240.0) -> None:
        """Waits until so many lines of the log have these words."""
        until = time.monotonic() + timeout_s
        while self.log_path.read_text().count(words) < lines:
            if self.process.poll() is not None or time.monotonic() > until:
                raise self._failed(f"has not logged {words!r} {lines} times")
            time.sleep(0.02)

    def members(self) -> list[psutil.Process]:
        """The processes that serve."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def group(store_url: str, model: entropyd.Model) -> Iterator[Group]:
    """Two processes on the store that has the model."""
    del model
    with Group(store_url) as running:
        yield running


def adjacent_ports() -> int:
    """The first of two ports on which nobody listens."""
    while True:
        (first,) = free_ports(1)
        with socket.socket() as second:
            try:
                second.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
        return first


def compressions(metrics_port: int) -> float:
    """Compress calls that a process has answered."""
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    (calls,) = (family for family in families if family.name == "entropyd_requests")
    return sum(sample.value for sample in calls.samples if sample.labels["method"].endswith("Compress"))


def test_connections_are_divided_and_strings_are_those_of_one_process(
    store_url: str, model: entropyd.Model
) -> None:
    array = np.random.default_rng(0).normal(0, 2, (2, 5, *model.config.prior_shape)).astype(np.float32)
    request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(array))
    port = adjacent_ports()
    with (
        Group(store_url, "127.0.0.1:0", "--metrics-listen", f"127.0.0.1:{port}") as group,
        ExitStack() as stack,
    ):
        for _ in range(CONNECTIONS):
            # Channels of one program share a connection unless they say so.
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.insecure_channel(group.target, options))
            stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
            response = stub.Compress(request)
            assert response.compressed.payload == model.compress(array).payload
        answered = [compressions(port), compressions(port + 1)]
    assert min(answered) > 0
    assert sum(answered) == CONNECTIONS


def test_a_process_that_dies_is_replaced_while_the_other_serves(group: Group, model: entropyd.Model) -> None:
    array = np.zeros((1, *model.config.prior_shape), np.float32)
    for served, killed in enumerate(group.members(), 3):
        killed.kill()
        killed.wait()
        with entropyd.Client(group.target) as client:
            assert client.model(model.id).compress(array).payload == model.compress(array).strings
        group.wait_for_lines("CodingService is SERVING", served)
    assert len(group.members()) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_drains_all_processes(group: Group, number: signal.Signals) -> None:
    members = group.members()
    group.process.send_signal(signal.SIGHUP)  # reloads files, and ends nothing
    group.process.send_signal(number)
    assert group.process.wait() == 0
    assert not any(member.is_running() for member in members)
    assert group.log_path.read_text().count("entropyd_server.app: stopped") == 2


def test_processes_end_with_the_one_that_started_them(group: Group) -> None:
    members = group.members()
    group.process.kill()
    assert psutil.wait_procs(members, timeout=60)[1] == []


def test_a_second_server_on_the_port_is_refused(group: Group, store_url: str) -> None:
    with pytest.raises(RuntimeError, match=r"cannot listen on 127\.0\.0\.1:\d+: is another server there"):
        Group(store_url, group.target).__enter__()


def test_a_process_that_cannot_start_ends_all(store_url: str) -> None:
    port = adjacent_ports()
    with (
        socket.create_server(("127.0.0.1", port + 1)),
        pytest.raises(RuntimeError, match="one of the processes could not start") as failed,
    ):
        Group(store_url, "127.0.0.1:0", "--metrics-listen", f"127.0.0.1:{port}").__enter__()
    assert f"cannot serve metrics on 127.0.0.1:{port + 1}" in str(failed.value)
