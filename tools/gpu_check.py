"""Checks the modeling role on a GPU against the CPU, in less than five minutes: `python tools/gpu_check.py`.

It starts a server on `gpu:0` and one on the CPU, and compares them through the client. Without a GPU it
compares two servers on the CPU, so that every check runs, and says so. Exit status 1 says that one failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import which
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import entropyd
from entropyd import priors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

OK, FAILED, NOT_DONE = "ok", "FAILED", "not done"
MIB = 2**20
# The first call of a function on a new GPU may compile its kernels.
CALL_S = 120.0
ALLOWED_MIB = 64.0
# Of bits: other approximations of exp and log than the CPU's.
RELATIVE = 1e-3
_GPU_COUNT = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


@dataclass(frozen=True)
class Finding:
    """A line of the report; `result` is OK, FAILED or NOT_DONE, `figure` what was measured, or why not."""

    check: str
    device: str
    result: str
    figure: str


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
      priors: How many are tried.
      width: Height and width of the largest arrays, which have CHANNELS channels.
      seconds: Of each measurement of speed.
      steps: Optimiser steps of a fit.
      rounds: Of all shapes, for memory.
    """

    priors: int
    width: int
    seconds: float
    steps: int
    rounds: int


LONG, SHORT = Effort(8, 64, 3.0, 200, 10), Effort(2, 16, 0.0, 5, 1)
CHANNELS = 64


@dataclass(frozen=True)
class Side:
    """A server with one worker for bit costs, and a client of it."""

    device: str
    server: entropyd.LocalServer
    client: entropyd.Client

    def worker(self) -> psutil.Process:
        """The process of the device, as the server's log names it last."""
        log = self.server.log_path.read_text()
        pids = re.findall(rf"worker {self.device} started as process (\d+)", log)
        return psutil.Process(int(pids[-1]))


@dataclass(frozen=True)
class Pair:
    """The device that is checked, the CPU that it is compared with, and how much is measured."""

    checked: Side
    cpu: Side
    effort: Effort

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both."""
        return self.checked, self.cpu


def tables_are_equal_or_refused_by_digest(pair: Pair) -> Iterator[Finding]:
    """Tables come from the same prior; strings of other tables are refused."""
    equal = 0
    configs = _configs()[: pair.effort.priors]
    for config in configs:
        one, other = (side.client.create_model(config, timeout_s=CALL_S) for side in pair.sides)
        compressed = one.compress(_array(4, 16))
        if one.tables_digest == other.tables_digest:
            equal += 1
            same = np.array_equal(other.decompress(compressed), one.decompress(compressed))
            if not same or other.compress(_array(4, 16)).payload != compressed.payload:
                yield Finding(
                    "coding", pair.checked.device, FAILED, f"{config.family}: equal tables, other strings"
                )
        else:
            yield refusal(f"strings of other tables, {config.family}", other, compressed)
    yield Finding(
        "tables", pair.checked.device, OK, f"{equal} of {len(configs)} priors have the CPU's tables"
    )
    yield refusal("a digest that is no model's", other, _with_other_digest(compressed))


def refusal(check: str, model: entropyd.Model, compressed: entropyd.CompressedTensor) -> Finding:
    """Whether a model refuses strings of other tables."""
    try:
        model.decompress(compressed)
    except entropyd.TablesMismatchError:
        return Finding(check, "", OK, "refused by digest")
    return Finding(check, "", FAILED, "decoded, with other tables")


def bits_are_those_of_the_cpu(pair: Pair) -> Iterator[Finding]:
    """The same array is rounded to the same one, and costs the same bits."""
    x = _array(4, pair.effort.width)
    for config in _configs()[: pair.effort.priors]:
        one, other = (
            _model(side, config).perturb(x, training=False, timeout_s=CALL_S) for side in pair.sides
        )
        differing = np.count_nonzero(one.perturbed != other.perturbed)
        apart = float(np.max(np.abs(one.bits / other.bits - 1)))
        well = apart <= RELATIVE and differing <= x.size * RELATIVE
        figure = f"{config.family}: bits differ by {apart:.1e}, {differing} of {x.size} values differ"
        yield Finding("bits", pair.checked.device, OK if well else FAILED, figure)


def perturb_is_as_fast_as_shown(pair: Pair) -> Iterator[Finding]:
    """Calls one after the other, with and without a gradient; the first one is told apart."""
    for gradient in (False, True):
        for units, width in ((1, 16), (4, pair.effort.width)):
            seconds = _perturb_seconds(pair, _array(units, width), gradient=gradient)
            later, cpu = (median(each[1:]) for each in seconds)
            first = f"first call {seconds[0][0]:.2f} s"
            what = f"Perturb{' with gradient' if gradient else ''}, {units} x {width}x{width}x{CHANNELS}"
            figure = f"{1e3 * later:.1f} ms, {cpu / later:.2f} times the CPU's speed; {first}"
            yield Finding(what, pair.checked.device, OK, figure)


def _perturb_seconds(pair: Pair, x: npt.NDArray[Any], *, gradient: bool) -> list[list[float]]:
    """Of each call, on each side; the sides take turns, so that others on the machine slow both."""
    models = [_model(side, _configs()[0]) for side in pair.sides]
    times: list[list[float]] = [[], []]
    until = time.perf_counter() + 2 * pair.effort.seconds
    while len(times[1]) < 3 or time.perf_counter() < until:
        for model, seconds in zip(models, times, strict=True):
            began = time.perf_counter()
            model.perturb(x, gradient=gradient, timeout_s=CALL_S)
            seconds.append(time.perf_counter() - began)
    return times


def a_fit_ends_where_the_cpus_does(pair: Pair) -> Iterator[Finding]:
    """A network is fitted to the same samples on both, to about the same rate."""
    samples = _array(40, 16).reshape(-1, CHANNELS)
    config = entropyd.ContinuousBatchedConfig(
        prior=priors.NoisyDeepFactorized(batch_shape=(CHANNELS,)), coding_rank=3
    )
    seconds, rates = [], []
    for side in pair.sides:
        began = time.perf_counter()
        model = side.client.fit_model(config, samples, max_steps=pair.effort.steps, timeout_s=CALL_S)
        seconds.append(time.perf_counter() - began)
        x = _array(4, 16)
        # Both are asked on the CPU.
        judged = pair.cpu.client.import_model(model.export())
        rates.append(float(np.sum(judged.perturb(x, training=False, timeout_s=CALL_S).bits)) / x.size)
    well = abs(rates[0] / rates[1] - 1) <= 0.02
    figure = (
        f"{seconds[0]:.1f} s, {seconds[1] / seconds[0]:.2f} times the CPU's speed; "
        f"{rates[0]:.3f} bits per element, the CPU's {rates[1]:.3f}"
    )
    yield Finding(f"fit of {pair.effort.steps} steps", pair.checked.device, OK if well else FAILED, figure)


def memory_is_bounded(pair: Pair) -> Iterator[Finding]:
    """Bit costs of many shapes, which are the same in every round: after the first nothing grows."""
    side, model = pair.checked, _model(pair.checked, _configs()[0])
    widths = [width for width in (1, 7, 16, 25) if width <= pair.effort.width]

    def one_round() -> None:
        for units in (1, 3, 8):
            for width in widths:
                model.perturb(_array(units, width), gradient=width % 2 == 1, timeout_s=CALL_S)

    def held() -> dict[str, float | None]:
        return {
            "memory of the worker": side.worker().memory_info().rss / MIB,
            "memory of the GPU": _gpu_mib(),
        }

    one_round()
    before = held()
    for _ in range(pair.effort.rounds):
        one_round()
    for what, later in held().items():
        earlier = before[what]
        if earlier is None or later is None:
            yield Finding(what, side.device, NOT_DONE, "nvidia-smi tells none")
            continue
        calls = 3 * len(widths) * pair.effort.rounds
        figure = f"{later - earlier:+.0f} MiB in {calls} calls, {later:.0f} MiB in all"
        yield Finding(what, side.device, OK if later - earlier <= ALLOWED_MIB else FAILED, figure)


def a_killed_worker_comes_back(pair: Pair) -> Iterator[Finding]:
    """The next calls end with bits or with UnavailableError; then bits are what they were."""
    side, x = pair.checked, _array(2, 16)
    model = _model(side, _configs()[0])
    before = model.perturb(x, training=False, timeout_s=CALL_S).bits
    side.worker().kill()
    killed, bits = time.perf_counter(), None
    while bits is None and time.perf_counter() < killed + CALL_S:
        try:
            bits = model.perturb(x, training=False, timeout_s=CALL_S).bits
        except entropyd.UnavailableError:
            time.sleep(0.1)
    seconds = time.perf_counter() - killed
    if bits is None:
        yield Finding("killed worker", side.device, FAILED, f"no bits {seconds:.0f} s after its end")
        return
    apart = float(np.max(np.abs(bits / before - 1)))
    figure = f"bits again after {seconds:.1f} s, which differ by {apart:.1e}"
    yield Finding("killed worker", side.device, OK if apart <= RELATIVE else FAILED, figure)


def the_worker_computes_on_the_gpu(pair: Pair) -> Iterator[Finding]:
    """A worker that finds no GPU computes on the CPU, and its log says so."""
    if not pair.checked.device.startswith("gpu"):
        yield Finding("worker's device", pair.checked.device, NOT_DONE, "there is no GPU to compute on")
        return
    log = pair.checked.server.log_path.read_text()
    lines = [line for line in log.splitlines() if "finds no GPU" in line]
    yield Finding("worker's device", pair.checked.device, FAILED if lines else OK, "".join(lines[-1:]))


CHECKS: tuple[Callable[[Pair], Iterator[Finding]], ...] = (
    the_worker_computes_on_the_gpu,
    tables_are_equal_or_refused_by_digest,
    bits_are_those_of_the_cpu,
    perturb_is_as_fast_as_shown,
    a_fit_ends_where_the_cpus_does,
    memory_is_bounded,
    a_killed_worker_comes_back,
)


def _array(units: int, width: int) -> npt.NDArray[np.float32]:
    """[units, width, width, CHANNELS], the same every time."""
    return np.random.default_rng(units).normal(0, 3, (units, width, width, CHANNELS)).astype(np.float32)


def _configs() -> list[Any]:
    """Models of CHANNELS channels; the first ones are quick to build."""
    loc, scale = np.zeros(CHANNELS), np.geomspace(0.3, 30, CHANNELS)
    pair = np.stack([scale, 2 * scale], axis=-1)
    made = [
        priors.NoisyNormal(loc, scale),
        priors.NoisyLaplace(loc, scale),
        priors.NoisyLogistic(loc, scale),
        priors.NoisyNormalMixture(np.zeros_like(pair), pair, np.full_like(pair, 0.5)),
        priors.NoisyDeepFactorized(batch_shape=(CHANNELS,)),
        priors.NoisyRoundedNormal(loc, scale),
        priors.NoisySoftRoundedNormal(loc, scale),
        priors.DeepFactorized(batch_shape=(CHANNELS,)),
    ]
    return [entropyd.ContinuousBatchedConfig(prior=prior, coding_rank=3) for prior in made]


def _model(side: Side, config: Any) -> entropyd.Model:
    return side.client.create_model(config, timeout_s=CALL_S)


def _with_other_digest(compressed: entropyd.CompressedTensor) -> entropyd.CompressedTensor:
    message = compressed.to_message()
    message.tables_digest = bytes(32)
    return entropyd.CompressedTensor.from_message(message)


def _gpu_mib() -> float | None:
    """MiB in use on all GPUs, by any process; None if nobody can say."""
    if which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return sum(map(float, told)) if told and all(mib.isdecimal() for mib in told) else None


def device_to_check() -> tuple[str, Finding]:
    """What is compared with the CPU, and what that shows."""
    driver = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    seen = subprocess.run([sys.executable, "-c", _GPU_COUNT], capture_output=True, text=True, check=False)
    if seen.returncode:
        why = (seen.stderr.strip().splitlines() or ["no reason given"])[-1]
        return "", Finding("TensorFlow", "", FAILED, f"cannot be used: {why}")
    if int(seen.stdout):
        return "gpu:0", Finding("GPU", "gpu:0", OK, f"{int(seen.stdout)} visible to TensorFlow")
    instead = "compared cpu:1 with cpu instead"
    if driver:
        why = f"the driver shows {len(driver)}, TensorFlow none (has it CUDA 11.8 and cuDNN 8?)"
        return "cpu:1", Finding("GPU", "gpu:0", FAILED, f"{why}: {instead}")
    return "cpu:1", Finding("GPU", "gpu:0", NOT_DONE, f"no GPU is visible to TensorFlow: {instead}")


Progress = Callable[[str], object]


def compared(pair: Pair, limit_s: float, progress: Progress = lambda _: None) -> Iterator[Finding]:
    """Runs all checks of two servers; none begins later than after `limit_s`, in seconds."""
    until = time.monotonic() + limit_s
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        progress(name)
        if time.monotonic() > until:
            yield Finding(name, pair.checked.device, NOT_DONE, f"the {limit_s:.0f} s were over")
            continue
        try:
            yield from check(pair)
        except (entropyd.EntropydError, psutil.Error) as error:
            yield Finding(name, pair.checked.device, FAILED, f"{type(error).__name__}: {error}")


def findings(effort: Effort, limit_s: float, progress: Progress) -> Iterator[Finding]:
    """Starts the servers, and compares them."""
    progress("looking for a GPU")
    device, finding = device_to_check()
    yield finding
    if not device:
        return
    progress("starting a server on each device")
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(entropyd.LocalServer("--devices", name, wait=False))
            for name in (device, "cpu")
        }
        for name, server in servers.items():
            try:
                server.wait_until_serving()
            except RuntimeError as error:
                yield Finding("server", name, FAILED, str(error).splitlines()[-1])
                return
        checked, cpu = (
            Side(name, server, stack.enter_context(entropyd.Client(server.target)))
            for name, server in servers.items()
        )
        yield from compared(Pair(checked, cpu, effort), limit_s, progress)


def main() -> None:
    """Prints the findings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print findings as JSON")
    parser.add_argument(
        "--short", action="store_true", help="measure little: for a look at the script itself"
    )
    parser.add_argument("--limit-s", type=float, default=240.0, help="no check begins after so many seconds")
    options = parser.parse_args()
    person = Console(stderr=True)
    with person.status("") as status:
        found = list(findings(SHORT if options.short else LONG, options.limit_s, status.update))
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        table = Table("check", "device", "result", "figure", box=None)
        for finding in found:
            table.add_row(finding.check, finding.device, finding.result, finding.figure)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
    sys.exit(any(finding.result == FAILED for finding in found))


if __name__ == "__main__":
    main()
