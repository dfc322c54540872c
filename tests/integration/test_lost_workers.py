"""Workers that die under a mixed load: what is lost is done again, and nothing else notices."""

from __future__ import annotations

import contextlib
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest

import entropyd
from entropyd import priors
from entropyd._compression import Compression
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RNG = np.random.default_rng(11)
WORKERS = ("builder", "cpu", "cpu:1")
# The server does a lost call twice, and the client makes it up to 5 times: more kills could use that up.
KILLS = 4
_ANSWERS_BETWEEN_KILLS = 10


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server with two devices, whose workers may be killed."""
    with LocalServer("--devices", "cpu,cpu:1") as running:
        yield running


def config(scale: float) -> entropyd.UniversalBatchedConfig:
    return entropyd.UniversalBatchedConfig(
        prior=priors.NoisyNormal(0.0, scale), coding_rank=1, num_noise_levels=3
    )


class Load:
    """Callers that go on until they are told to stop, and how many answers each has got."""

    def __init__(self, callers: list[Callable[[], None]]) -> None:
        self._callers = callers
        self._changed = threading.Condition()
        self._failed = False
        self.stop = threading.Event()
        self.answered = [0] * len(callers)

    def run(self, number: int) -> None:
        try:
            while not self.stop.is_set():
                self._callers[number]()
                with self._changed:
                    self.answered[number] += 1
                    self._changed.notify()
                # Without breaks, those who code would take the cores on which a worker starts again.
                self.stop.wait(0.02)
        except BaseException:
            with self._changed:
                self._failed = True
                self._changed.notify()
            raise

    def wait(self, enough: Callable[[list[int]], bool]) -> None:
        """Until there are enough answers since now, by caller, or a caller has failed."""
        with self._changed:
            before = list(self.answered)

            def since() -> list[int]:
                return [now - then for now, then in zip(self.answered, before, strict=True)]

            assert self._changed.wait_for(lambda: self._failed or enough(since()), 120)


def kill(server: LocalServer, name: str) -> None:
    """Kills a worker, whatever it does; one that has just died is dead already."""
    started = re.findall(rf"worker {name} started as process (\d+)", server.log_path.read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(started[-1])).kill()


def test_killing_workers_at_random_loses_nothing_but_retried_calls(server: LocalServer) -> None:
    """Bit costs, builds and codings all end with the right answer; a fit says that it was lost."""
    x = RNG.normal(0, 3, (4, 20_000)).astype(np.float32)
    samples = RNG.normal(0, 3, (2000, 1)).astype(np.float32)
    lost_fits: list[entropyd.UnavailableError] = []
    with (
        entropyd.Client(server.target) as client,
        # Coding has no worker to lose, and shall not need a retry.
        grpc.insecure_channel(server.target, [("grpc.enable_retries", 0)]) as channel,
    ):
        assert client.server_info().devices == WORKERS[1:]
        models = [client.create_model(config(1.0 + number)) for number in range(5)]
        costs = [model(x, training=False)[1].tobytes() for model in models]
        strings = models[0].compress(x).strings.tolist()
        restored = models[0].decompress(models[0].compress(x)).tobytes()
        tables = models[4].cdf.tobytes()
        coding: Any = coding_pb2_grpc.CodingServiceStub(channel)

        def estimate(number: int) -> None:
            assert models[number](x, training=False)[1].tobytes() == costs[number]

        def build() -> None:
            client.delete_model(models[4].id)
            assert client.create_model(models[4].config).cdf.tobytes() == tables

        def code() -> None:
            work = Compression(models[0].info, x)
            for request, _ in work.requests():
                work.add(coding.Compress(coding_pb2.CompressRequest.FromString(request)))
            compressed = work.result()
            assert compressed.strings.tolist() == strings
            assert models[0].decompress(compressed).tobytes() == restored

        def fit() -> None:
            try:
                client.fit_model(config(2.0), samples, max_steps=100)
            except entropyd.UnavailableError as error:
                lost_fits.append(error)

        callers = [*(lambda number=number: estimate(number) for number in range(4)), build, code, fit]
        load, chance = Load(callers), random.Random(5)  # noqa: S311 - a test's choices
        # Each of them at least once.
        order = [*WORKERS, *chance.choices(WORKERS, k=KILLS - len(WORKERS))]
        chance.shuffle(order)
        with ThreadPoolExecutor(len(callers)) as pool:
            running = [pool.submit(load.run, number) for number in range(len(callers))]
            try:
                for name in order:
                    load.wait(lambda since: sum(since[:4]) >= _ANSWERS_BETWEEN_KILLS)
                    kill(server, name)
                # All of them go on, the builds too.
                load.wait(lambda since: min(since) >= 1)
            finally:
                load.stop.set()
            for future in running:
                future.result()
    assert {error.reason for error in lost_fits} <= {"WORKER_LOST"}
    assert len(lost_fits) <= KILLS
