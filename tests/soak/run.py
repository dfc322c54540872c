"""The soak: `python -m tests.soak.run --minutes N`; `make soak` is three of them.

It starts a server and callers, kills the server's workers, and prints a verdict. Exit status 0 says that
every call ended as it must and that nothing grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import entropyd
import entropyd.aio
from entropyd import priors
from entropyd.v1 import coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.soak.flatness import Growth, Quantity, Watch, of_process
from tests.soak.visits import Visitor, unretried
from tests.support.load import free_ports

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

CALLERS = 12
SAMPLES = 300
DAMAGED = "d" * 64


@dataclass(frozen=True)
class Outcome:
    """What a soak showed.

    Attributes:
      growths: How everything that was watched did.
      ends: How many visits ended in which way.
      kills: How many workers were killed.
      failures: Visits that ended as they must not, and what did not come to rest at the end.
      watch: All samples.
    """

    growths: list[Growth]
    ends: Counter[str]
    kills: int
    failures: list[str]
    watch: Watch

    @property
    def passed(self) -> bool:
        """Whether every visit ended as it must and nothing grew."""
        return not self.failures and all(growth.flat for growth in self.growths)


def soak(
    duration_s: float,
    *,
    seed: int,
    kill_every_s: float,
    allowed_mib: float,
    progress: Callable[[float], object] = lambda _: None,
) -> Outcome:
    """Keeps a server of its own busy for a while.

    Args:
      duration_s: How long, in seconds.
      seed: Of the mix.
      kill_every_s: Time between two kills of a worker, in seconds.
      allowed_mib: Growth of a process's memory that is no leak.
      progress: Told the seconds that are done.
    """
    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    with tempfile.TemporaryDirectory(prefix="entropyd-soak-") as folder:
        models = Path(folder, "models")
        models.mkdir()
        (models / f"{DAMAGED}.safetensors").write_bytes(b"no model")
        flags = ["--metrics-listen", metrics, "--max-build-seconds", "60"]
        with (
            LocalServer(*flags, store=Path(folder).as_uri()) as server,
            contextlib.closing(_Workers(server.log_path)) as workers,
        ):
            watch = Watch(
                [
                    # Reads of the store come from a pool of threads that is as large as was needed lately.
                    *of_process(
                        "server", lambda: server.process.pid, mib=allowed_mib, descriptors=8, threads=24
                    ),
                    *of_process(
                        "worker cpu",
                        partial(workers.pid, "cpu"),
                        mib=2 * allowed_mib,
                        descriptors=2,
                        threads=8,
                    ),
                    # Its memory is shown and not judged: a cancelled call of grpc.aio may leave its message
                    # behind, as of grpcio 1.85 (https://github.com/grpc/grpc/issues/43360).
                    *of_process("client", os.getpid, mib=math.inf, descriptors=8, threads=8),
                    Quantity(
                        "server: models in memory", lambda: _metric(metrics, "entropyd_models_loaded"), 4
                    ),
                ]
            )
            soaking = _Soak(server, workers, metrics, watch, random.Random(seed))  # noqa: S311 - a test's choices
            return asyncio.run(soaking.run(duration_s, kill_every_s, progress))


class _Soak:
    def __init__(
        self, server: LocalServer, workers: _Workers, metrics: str, watch: Watch, chance: random.Random
    ) -> None:
        self._server = server
        self._workers = workers
        self._metrics = metrics
        self._watch = watch
        self._chance = chance
        self._failures: list[str] = []
        self._kills = 0

    async def run(
        self, duration_s: float, kill_every_s: float, progress: Callable[[float], object]
    ) -> Outcome:
        async with entropyd.aio.Client(self._server.target) as client, unretried(self._server.target) as raw:
            stub = coding_pb2_grpc.CodingServiceStub(raw)
            models = [await client.create_model(config) for config in _configs()]
            visitor = Visitor(client, stub, models, DAMAGED, self._chance)
            started = time.monotonic()
            ending = asyncio.Event()
            work = [self._caller(visitor, ending) for _ in range(CALLERS)]
            killing = self._killer(kill_every_s, started + duration_s / 3, ending)
            tasks = [asyncio.create_task(each) for each in (*work, killing)]
            period_s = duration_s / SAMPLES
            while (elapsed_s := time.monotonic() - started) < duration_s:
                # Off the loop: a scrape waits for the server, and callers should not wait for both.
                await asyncio.to_thread(self._watch.sample, elapsed_s)
                progress(elapsed_s)
                await asyncio.sleep(period_s)
            ending.set()
            await asyncio.gather(*tasks)
        await self._check_rest()
        ended = self._server.process.poll()
        if ended is not None:
            self._failures.append(f"the server ended with status {ended}")
        return Outcome(self._watch.growths(), visitor.ends, self._kills, self._failures, self._watch)

    async def _caller(self, visitor: Visitor, ending: asyncio.Event) -> None:
        while not ending.is_set():
            try:
                await visitor.visit()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding, and the others go on
                self._failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)

    async def _killer(self, every_s: float, until: float, ending: asyncio.Event) -> None:
        """Kills workers of both kinds, and from `until` on only the builder, so that the other one ages."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ending.wait(), every_s)
                return
            kinds = ["builder", "cpu"] if time.monotonic() < until else ["builder"]
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self._workers.pid(self._chance.choice(kinds))).kill()
                self._kills += 1

    async def _check_rest(self) -> None:
        """Whoever left, nothing may be left of their calls once there are no callers."""
        for name in ("entropyd_inflight_requests", "entropyd_queue_symbols"):
            until = time.monotonic() + 30
            while value := await asyncio.to_thread(_metric, self._metrics, name):
                if time.monotonic() > until:
                    self._failures.append(f"{name} is {value:g} long after the last call")
                    break
                await asyncio.sleep(0.05)


def _configs() -> list[entropyd.UniversalBatchedConfig]:
    return [
        entropyd.UniversalBatchedConfig(
            prior=priors.NoisyLaplace(loc=0.0, scale=np.linspace(0.5, 4, channels)),
            coding_rank=2,
            bottleneck_dtype=dtype,
            num_noise_levels=3,
        )
        for channels, dtype in ((1, "float32"), (4, "float64"), (7, "float16"), (16, "float32"))
    ]


class _Workers:
    """Which process each worker is now, as the server's log tells."""

    def __init__(self, log: Path) -> None:
        self._log = log.open()
        self._lines = threading.Lock()
        self._pids: dict[str, int] = {}

    def pid(self, name: str) -> int:
        with self._lines:
            for line in self._log:
                if started := re.search(r"worker (\w+) started as process (\d+)", line):
                    self._pids[started[1]] = int(started[2])
        return self._pids[name]

    def close(self) -> None:
        self._log.close()


def _metric(address: str, name: str) -> float:
    with urlopen(f"http://{address}/metrics") as reply:
        families = text_string_to_metric_families(reply.read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def report(outcome: Outcome, console: Console) -> None:
    """Prints what was watched, what was done, and the verdict."""
    table = Table("", "second third", "last third", "growth", "allowed", "")
    for growth in outcome.growths:
        table.add_row(
            growth.name,
            f"{growth.second_third:.1f}",
            f"{growth.last_third:.1f}",
            f"{growth.last_third - growth.second_third:+.1f}",
            f"{growth.allowed:.1f}" if math.isfinite(growth.allowed) else "",
            _judgement(growth),
        )
    console.print(table)
    ends = ", ".join(f"{count} {end}" for end, count in sorted(outcome.ends.items()))
    console.print(f"{outcome.ends.total()} visits: {ends}; {outcome.kills} workers killed")
    for failure, count in _counted(outcome.failures):
        console.print(f"FAILED {count} times: {failure}", markup=False)
    console.print("PASS: every visit ended as it must, and nothing grew" if outcome.passed else "FAIL")


def _judgement(growth: Growth) -> str:
    if not math.isfinite(growth.allowed):
        return "not judged"
    return "flat" if growth.flat else "GROWS"


def _counted(failures: list[str]) -> list[tuple[str, int]]:
    return [(failure, failures.count(failure)) for failure in dict.fromkeys(failures)]


def plot(outcome: Outcome, path: Path) -> None:
    """Draws every quantity over time."""
    import matplotlib as mpl  # noqa: PLC0415 - only who asks for a picture waits for it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    samples = outcome.watch.samples
    figure, axes = plt.subplots(len(samples), sharex=True, figsize=(9, 1.6 * len(samples)))
    for axis, (name, points) in zip(axes, samples.items(), strict=True):
        axis.plot([at_s / 60 for at_s, _ in points], [value for _, value in points], linewidth=1)
        axis.set_title(name, loc="left", fontsize=9)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Soaks, prints, and exits with 0 only for a pass."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="how long; 600 is a night")
    parser.add_argument("--seed", type=int, default=0, help="of the mix")
    parser.add_argument("--kill-every-s", type=float, default=20.0, help="time between two kills of a worker")
    parser.add_argument("--allowed-mib", type=float, default=16.0, help="growth of memory that is no leak")
    parser.add_argument("--plot", type=Path, help="where to draw everything that was watched, as PNG")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with Progress(console=console, disable=not sys.stdout.isatty()) as bar:
        done = bar.add_task("soaking", total=60 * options.minutes)
        outcome = soak(
            60 * options.minutes,
            seed=options.seed,
            kill_every_s=options.kill_every_s,
            allowed_mib=options.allowed_mib,
            progress=lambda seconds: bar.update(done, completed=seconds),
        )
    report(outcome, console)
    if options.plot is not None:
        plot(outcome, options.plot)
    sys.exit(0 if outcome.passed else 1)


if __name__ == "__main__":
    main()
