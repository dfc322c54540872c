"""Builds of many callers on a real server: none holds the others, and none holds the end of the process."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil

import entropyd
from entropyd import priors
from entropyd.contract.kinds import config_to_message
from entropyd.v1 import model_pb2, model_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.load import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

# A connection of its own for each channel, and no retries.
_ALONE = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


def lengthy(number: int) -> entropyd.UniversalBatchedConfig:
    """A model of so many rows that they take half a minute and more."""
    prior = priors.NoisyNormal(loc=np.full(2000, float(number)), scale=1.0)
    return entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=300)


def easy(scale: float) -> entropyd.UniversalBatchedConfig:
    return entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, scale), coding_rank=1)


@contextmanager
def caller(server: LocalServer) -> Iterator[Any]:
    """The stub of a caller with a connection of its own."""
    with grpc.insecure_channel(server.target, _ALONE) as channel:
        yield model_pb2_grpc.ModelServiceStub(channel)


def create(stub: Any, config: entropyd.UniversalBatchedConfig) -> Any:
    return stub.CreateModel.future(model_pb2.CreateModelRequest(config=config_to_message(config)))


def wait_until_building(server: LocalServer) -> None:
    """Until the builder works: it does nothing else."""
    (number,) = re.findall(r"worker builder started as process (\d+)", server.log_path.read_text())
    builder, until = psutil.Process(int(number)), time.monotonic() + 60
    before = builder.cpu_times().user
    while builder.cpu_times().user < before + 0.2:
        assert time.monotonic() < until


def test_a_build_that_nobody_waits_for_any_more_is_ended() -> None:
    with LocalServer("--role", "modeling", "--builders", "1") as server, caller(server) as stub:
        abandoned = create(stub, lengthy(0))
        wait_until_building(server)
        abandoned.cancel()
        assert create(stub, easy(1.0)).result(60).created
        assert "(cancelled); starting another" in server.log_path.read_text()
        with entropyd.Client(server.target) as client:
            assert [model.id for model in client.models()] == [easy(1.0).model_id]


def test_callers_take_turns_on_a_lone_builder() -> None:
    flags = ["--builders", "1", "--max-build-seconds", "6"]
    (port,) = free_ports(1)
    with (
        # Connections to a Unix socket have no addresses, by which callers without tokens are told apart.
        LocalServer("--role", "modeling", *flags, listen=f"127.0.0.1:{port}") as server,
        caller(server) as greedy,
        caller(server) as modest,
    ):
        calls = [create(greedy, lengthy(number)) for number in range(4)]
        wait_until_building(server)
        assert create(modest, easy(1.0)).result(60).created
        # The one in flight comes first, and perhaps another that took the same moment.
        assert sum(call.done() for call in calls) <= 2
        for call in calls:
            call.cancel()


def test_a_short_build_passes_a_long_one_where_there_are_two_builders() -> None:
    with LocalServer("--role", "modeling", "--builders", "2") as server, caller(server) as stub:
        long = [create(stub, lengthy(number)) for number in range(2)]
        assert create(stub, easy(2.0)).result(60).created
        assert not any(call.done() for call in long)
        for call in long:
            call.cancel()


def test_callers_of_builds_and_fits_are_told_at_once_that_the_server_stops() -> None:
    drain_s = 10
    with LocalServer("--role", "modeling", "--builders", "1", "--drain-seconds", str(drain_s)) as server:
        samples = np.random.default_rng(1).normal(0, 2, (5000, 1)).astype(np.float32)
        fitting, told = threading.Event(), []

        def fit() -> None:
            with entropyd.Client(server.target) as client:
                try:
                    client.fit_model(easy(1.0), samples, max_steps=100_000, progress=lambda _: fitting.set())
                except entropyd.UnavailableError as error:
                    told.append(error.reason)

        thread = threading.Thread(target=fit)
        thread.start()
        with caller(server) as stub:
            builds = [create(stub, lengthy(number)) for number in range(2)]
            assert fitting.wait(60)
            server.process.terminate()
            for build in builds:
                assert build.code() is grpc.StatusCode.UNAVAILABLE
                assert "stopping" in build.details()
            thread.join()
            assert told == ["DRAINING"]
            # All of that before the end of the drain time.
            assert server.process.poll() is None
        assert server.process.wait(drain_s + 10) == 0
