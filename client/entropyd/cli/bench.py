"""`entropyd bench`: measures a running server from the client's side.

Invariant: every result is compared with the first one, so a server that is fast and wrong is an error.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from entropyd import Model, UniversalBatchedConfig, priors
from entropyd.cli.session import Session
from entropyd.cli.values import MODEL_ID, FiniteRange

_WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Measurement:
    """One operation under load.

    Attributes:
      operation: `compress` or `decompress`.
      calls_per_s: Calls per second, of all callers together.
      megabytes_per_s: Bytes of arrays, in units of 10^6, per second.
      p50_ms, p90_ms, p99_ms: Percentiles of the latency.
    """

    operation: str
    calls_per_s: float
    megabytes_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


@click.command()
@click.option(
    "--model",
    "model_id",
    type=MODEL_ID,
    show_default="a normal prior for the last axis of --shape",
    help="Model to use: its id, 6 or more of its first digits, or its name.",
)
@click.option("--shape", default="1,4,4,192", help="Shape of the array of each call.")
@click.option("--coding-rank", default=3, help="Coding rank of the default model.")
@click.option("--concurrency", default=16, help="Calls in flight.", type=click.IntRange(1, 1024))
@click.option(
    "--seconds",
    default=5.0,
    type=FiniteRange(min=0, min_open=True),
    help="Time for each of the two operations, in seconds.",
)
@click.pass_obj
def bench(
    session: Session,
    /,
    *,
    model_id: str | None,
    shape: str,
    coding_rank: int,
    concurrency: int,
    seconds: float,
) -> None:
    """Measure a running server: calls per second, latency, megabytes per second.

    Without --model it creates one; `entropyd models delete` removes it.

    \b
    Examples:
      entropyd bench
      entropyd --json bench --model MODEL_ID --shape 1,48,32,192 --concurrency 4
    """
    axes = _shape(shape)
    if model_id is None:
        scale = np.geomspace(0.1, 8, axes[-1] if axes else 1).astype(np.float32)
        prior = priors.NoisyNormal(loc=0.0, scale=scale)
        config = UniversalBatchedConfig(prior=prior, coding_rank=coding_rank)
        # The limit of the client is --timeout-s.
        model = session.build(lambda client: client.create_model(config, timeout_s=None))
    else:
        model = session.client.model(model_id)
    measured = measure(model, axes, concurrency, seconds)
    found = {
        "model_id": model.id,
        "shape": list(axes),
        "concurrency": concurrency,
        "operations": [asdict(one) for one in measured],
    }
    lines = [f"model {model.id}, shape {axes}, {concurrency} calls in flight"]
    lines.append(f"{'':12}{'calls/s':>10}{'MB/s':>10}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}")
    for one in measured:
        rates = f"{one.calls_per_s:10.0f}{one.megabytes_per_s:10.1f}"
        lines.append(f"{one.operation:12}{rates}{one.p50_ms:10.2f}{one.p90_ms:10.2f}{one.p99_ms:10.2f}")
    session.tell(found, "\n".join(lines))


def measure(model: Model, shape: tuple[int, ...], concurrency: int, seconds: float) -> list[Measurement]:
    """Compresses one array again and again, then decompresses it again and again."""
    array = np.random.default_rng(0).normal(0, 2, shape).astype(model.bottleneck_dtype)
    compressed = model.compress(array)
    restored = model.decompress(compressed)

    def compress() -> bool:
        return model.compress(array).payload == compressed.payload

    def decompress() -> bool:
        return bool(np.array_equal(model.decompress(compressed), restored))

    calls = {"compress": compress, "decompress": decompress}
    return [_load(name, call, array, concurrency, seconds) for name, call in calls.items()]


def _load(
    operation: str, call: Any, array: npt.NDArray[Any], concurrency: int, seconds: float
) -> Measurement:
    for _ in range(_WARM_UP_CALLS):
        call()
    begin = time.perf_counter()
    stopped = threading.Event()

    def caller() -> list[float]:
        latencies = []
        while not stopped.is_set() and (start := time.perf_counter()) < begin + seconds:
            if not call():
                raise click.ClickException(f"a result of {operation} differs from the first one")
            latencies.append(time.perf_counter() - start)
        return latencies

    with ThreadPoolExecutor(concurrency) as threads:
        try:
            callers = [threads.submit(caller) for _ in range(concurrency)]
            wait(callers, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()  # Ctrl-C, or one of them failed: the executor waits for the others
        latencies = [latency for one in callers for latency in one.result()]
    rate = len(latencies) / (time.perf_counter() - begin)
    p50, p90, p99 = np.percentile(np.array(latencies or [0.0]) * 1e3, [50, 90, 99]).tolist()
    return Measurement(operation, rate, rate * array.nbytes / 1e6, p50, p90, p99)


def _shape(text: str) -> tuple[int, ...]:
    try:
        axes = tuple(int(axis) for axis in text.split(",") if axis)
    except ValueError:
        axes = (-1,)
    if any(axis < 0 for axis in axes):
        raise click.UsageError(f"--shape {text!r} is not a list of axes, as in 1,4,4,192")
    return axes
