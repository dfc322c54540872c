"""The soak: `python -m tests.soak.run --minutes N`; `make soak` is three of them.

It starts a server with every role, a replica with the coding role, and callers; kills workers and callers,
restarts the replica, and prints a verdict. Exit status 0 says that every call ended as it must and that
nothing grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.progress import Progress

import entropyd.aio
from entropyd.v1 import coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.soak.flatness import Quantity, Watch, of_process
from tests.soak.mix import Mix
from tests.soak.models import configs
from tests.soak.probes import Workers, metric_of
from tests.soak.report import Outcome, plot, report
from tests.soak.routes import routes, unretried
from tests.soak.scene import Scene
from tests.support.load import free_ports
from tests.support.replicas import start_replicas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.replicas import Replica

CALLERS = 12
SAMPLES = 300
DAMAGED = "d" * 64


@dataclass(frozen=True)
class Times:
    """When a soak does what.

    Attributes:
      duration_s: Of all but the warm-up of the worker that is judged.
      kill_s: Between two kills of a worker. In the first third of the time both are killed, afterwards only
        the builder: the other one ages.
      vanish_s: Between two kills of a process with calls in flight.
      restart_s: Between two restarts of the replica, besides the one at the beginning.
    """

    duration_s: float
    kill_s: float
    vanish_s: float
    restart_s: float


def soak(
    times: Times, *, seed: int, allowed_mib: float, progress: Callable[[float], object] = lambda _: None
) -> Outcome:
    """Keeps servers of its own busy for a while.

    Args:
      times: When it does what.
      seed: Of the mix.
      allowed_mib: Growth of a process's memory that is no leak.
      progress: Told the seconds that are done.
    """
    port, metrics_port = free_ports(2)
    metrics = f"127.0.0.1:{metrics_port}"
    with tempfile.TemporaryDirectory(prefix="entropyd-soak-") as folder:
        models = Path(folder, "models")
        models.mkdir()
        (models / f"{DAMAGED}.safetensors").write_bytes(b"no model")
        store = Path(folder).as_uri()
        flags = ["--metrics-listen", metrics, "--max-build-seconds", "60"]
        with (
            LocalServer(*flags, listen=f"127.0.0.1:{port}", store=store, wait=False) as server,
            start_replicas(1, store) as [replica],
            contextlib.closing(Workers(server.log_path)) as workers,
        ):
            server.wait_until_serving()
            soaking = _Soak(
                server,
                replica,
                workers=workers,
                metrics=metrics,
                allowed_mib=allowed_mib,
                chance=random.Random(seed),  # noqa: S311 - a test's choices
            )
            return asyncio.run(soaking.run(times, progress))


class _Soak:
    def __init__(
        self,
        server: LocalServer,
        replica: Replica,
        *,
        workers: Workers,
        metrics: str,
        allowed_mib: float,
        chance: random.Random,
    ) -> None:
        self._server = server
        self._replica = replica
        self._replica_serves = True
        self._workers = workers
        self._metrics = metrics
        self._chance = chance
        self._failures: list[str] = []
        self._kills: Counter[str] = Counter()
        self._ageing = False
        # Whether callers begin another operation.
        self._open = asyncio.Event()
        self._started = time.monotonic()
        self._watch = Watch(self._quantities(allowed_mib))

    def _quantities(self, mib: float) -> list[Quantity]:
        return [
            # Reads of the store come from a pool of threads that is as large as was needed lately.
            *of_process("server", lambda: self._server.process.pid, mib=mib, descriptors=8, threads=24),
            *of_process("worker cpu", partial(self._workers.pid, "cpu"), mib=mib, descriptors=2, threads=8),
            # Each of its processes begins anew: this shows what one leaves behind for the next.
            *of_process(
                "replica, restarted",
                lambda: self._replica.pid if self._replica_serves else None,
                mib=mib,
                descriptors=8,
                threads=24,
            ),
            # Its memory is shown and not judged: a cancelled call of grpc.aio may leave its message
            # behind, as of grpcio 1.85 (https://github.com/grpc/grpc/issues/43360).
            *of_process("client", os.getpid, mib=math.inf, descriptors=8, threads=8),
            Quantity(
                "server: models in memory", partial(metric_of, self._metrics, "entropyd_models_loaded"), 4
            ),
        ]

    async def run(self, times: Times, progress: Callable[[float], object]) -> Outcome:
        # Blocking clients of all callers at once, and the watch beside them.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * CALLERS))
        target = f"ipv4:{self._server.target},{self._replica.address}"
        async with entropyd.aio.Client(self._server.target) as client, unretried(self._server.target) as raw:
            models = [await client.create_model(config) for config in configs()]
            async with routes(target, models) as ways:
                stub = coding_pb2_grpc.CodingServiceStub(raw)
                scene = Scene(target, client, stub, models, ways, DAMAGED, self._chance)
                mix = Mix(scene)
                vanish = partial(self._vanish, models[0].id)
                since_s = await self._busy(mix, vanish, times, progress)
        await self._check_rest()
        ended = self._server.process.poll()
        if ended is not None:
            self._failures.append(f"the server ended with status {ended}")
        growths = self._watch.growths(since_s)
        return Outcome(growths, mix.ends, mix.coded, self._kills, self._failures, self._watch, since_s)

    async def _busy(
        self,
        mix: Mix,
        vanish: Callable[[], Awaitable[None]],
        times: Times,
        progress: Callable[[float], object],
    ) -> float:
        """Everything at once, and when its warm-up was over, in seconds."""
        ending = asyncio.Event()
        tasks = [
            *(asyncio.create_task(self._caller(mix, ending)) for _ in range(CALLERS)),
            asyncio.create_task(self._every(times.kill_s, ending, self._kill)),
            asyncio.create_task(self._every(times.vanish_s, ending, vanish)),
            asyncio.create_task(self._every(times.restart_s, ending, self._restart)),
            asyncio.create_task(self._sampler(times.duration_s / SAMPLES, ending, progress)),
        ]
        self._started = time.monotonic()
        self._open.set()
        await asyncio.gather(asyncio.sleep(times.duration_s / 3), self._restart())
        self._ageing = True
        # A worker holds all that it ever will once it has compiled what it is asked for; alone it soon has.
        self._open.clear()
        await mix.call_all()
        self._open.set()
        since_s = time.monotonic() - self._started
        await asyncio.sleep(2 * times.duration_s / 3)
        ending.set()
        await asyncio.gather(*tasks)
        return since_s

    async def _sampler(
        self, period_s: float, ending: asyncio.Event, progress: Callable[[float], object]
    ) -> None:
        while not ending.is_set():
            elapsed_s = time.monotonic() - self._started
            # Off the loop: a scrape waits for the server, and callers should not wait for both.
            await asyncio.to_thread(self._watch.sample, elapsed_s)
            progress(elapsed_s)
            await asyncio.sleep(period_s)

    async def _caller(self, mix: Mix, ending: asyncio.Event) -> None:
        while not ending.is_set():
            await self._open.wait()
            try:
                await mix.run_one()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding, and the others go on
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                self._failures.append(f"{type(error).__name__} at {where}: {error}")
                await asyncio.sleep(0.1)

    async def _every(
        self, period_s: float, ending: asyncio.Event, action: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ending.wait(), period_s)
                return
            await action()

    async def _kill(self) -> None:
        """Kills a worker, which may be the one that is judged unless that ages already."""
        name = self._chance.choice(["builder"] if self._ageing else ["builder", "cpu"])
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self._workers.pid(name)).kill()
            self._kills[f"worker {name} killed"] += 1

    async def _restart(self) -> None:
        """Restarts the replica, which drains; no call may notice."""
        if not self._replica_serves:
            return
        self._replica_serves = False
        await asyncio.to_thread(self._replica.restart)
        self._replica_serves = True
        self._kills["replica restarted"] += 1

    async def _vanish(self, model_id: str) -> None:
        """Kills a process that has calls and a stream in flight."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.soak.vanishing",
            self._server.target,
            model_id,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.kill()
        await process.wait()
        self._kills["caller killed"] += 1

    async def _check_rest(self) -> None:
        """Whoever left, nothing may be left of their calls once there are no callers."""
        servers: dict[str, Callable[[str], float]] = {
            "server": partial(metric_of, self._metrics),
            "replica": self._replica.sample,
        }
        for server, sample in servers.items():
            for name in ("entropyd_inflight_requests", "entropyd_queue_symbols"):
                until = time.monotonic() + 30
                while value := await asyncio.to_thread(sample, name):
                    if time.monotonic() > until:
                        self._failures.append(f"{name} of the {server} is {value:g} long after the last call")
                        break
                    await asyncio.sleep(0.05)


def main() -> None:
    """Soaks, prints, and exits with 0 only for a pass."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="how long; 600 is a night")
    parser.add_argument("--seed", type=int, default=0, help="of the mix")
    parser.add_argument("--kill-s", type=float, default=20.0, help="time between two kills of a worker")
    parser.add_argument("--vanish-s", type=float, default=10.0, help="time between two kills of a caller")
    parser.add_argument(
        "--restart-s", type=float, default=60.0, help="time between two restarts of the replica"
    )
    parser.add_argument("--allowed-mib", type=float, default=16.0, help="growth of memory that is no leak")
    parser.add_argument("--plot", type=Path, help="where to draw everything that was watched")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with Progress(console=console, disable=not sys.stdout.isatty()) as bar:
        done = bar.add_task("soaking", total=60 * options.minutes)
        outcome = soak(
            Times(60 * options.minutes, options.kill_s, options.vanish_s, options.restart_s),
            seed=options.seed,
            allowed_mib=options.allowed_mib,
            progress=lambda seconds: bar.update(done, completed=seconds),
        )
    report(outcome, console)
    if options.plot is not None:
        plot(outcome, options.plot)
    sys.exit(0 if outcome.passed else 1)


if __name__ == "__main__":
    main()
