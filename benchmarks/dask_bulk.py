"""Bulk coding on Dask against one client by hand, in one run.

    python -m benchmarks.dask_bulk [--gigabytes 8] [--max-error 0.001] [--dask-malloc]

By hand, one process makes each chunk from its number, compresses it with `Model.compress` (with
`--max-error`, `bounded.compress`) and saves the archive. With `entropyd.dask`, two worker processes of one
thread do the same. All of it runs on one machine: both share its cores with the same server. They take turns,
a gigabyte each, so that both see the same machine. The output says the throughput of each, the ratio, and the
largest resident memory of each worker. `--dask-malloc` leaves MALLOC_TRIM_THRESHOLD_ of workers as Dask sets
it. The section of docs/dask.md between the `dask` marks is rewritten.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import distributed
import numpy as np
import psutil

import entropyd
import entropyd.dask
from benchmarks.machine import machine
from benchmarks.page import DASK, rewrite
from entropyd import bounded, priors
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

_COLUMNS = 1024
_SAMPLED_EVERY_S = 0.1


def main() -> None:
    """Measures, prints and rewrites the page."""
    arguments = argparse.ArgumentParser(description="bulk coding on Dask against one client by hand")
    arguments.add_argument("--gigabytes", type=float, default=8.0, help="float32 data in all, of each")
    arguments.add_argument("--turn-gigabytes", type=float, default=1.0, help="data of one turn")
    arguments.add_argument("--chunk-megabytes", type=float, default=64.0, help="a Dask chunk")
    arguments.add_argument("--max-error", type=float, default=None)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--dask-malloc", action="store_true", help="leave Dask's settings of malloc")
    arguments.add_argument("--no-page", action="store_true", help="leave docs/dask.md as it is")
    options = arguments.parse_args()
    if not options.dask_malloc:
        dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None})
    text = measured(options)
    print(text)
    if not options.no_page:
        rewrite(DASK, "dask", text)


def measured(options: argparse.Namespace) -> str:
    """Both ways in turn, as a table."""
    rows = int(options.chunk_megabytes * 1e6 / 4 / _COLUMNS)
    chunk_gb = rows * _COLUMNS * 4 / 1e9
    chunks = max(round(options.gigabytes / chunk_gb), options.workers)
    turn = max(round(options.turn_gigabytes / chunk_gb), options.workers)
    turns = [range(first, min(first + turn, chunks)) for first in range(0, chunks, turn)]
    cluster_of = partial(distributed.LocalCluster, n_workers=options.workers, threads_per_worker=1)
    with (
        tempfile.TemporaryDirectory(prefix="entropyd-dask-") as folder,
        LocalServer() as server,
        entropyd.Client(server.target) as client,
        cluster_of(dashboard_address=None, local_directory=folder) as cluster,
        distributed.Client(cluster) as dask_client,
    ):
        spread = 3.0 if options.max_error is None else 1.0
        scale = 3.0 if options.max_error is None else 1.0 / (2 * options.max_error)
        prior = priors.NoisyNormal(loc=0.0, scale=scale)
        model = client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1))
        bench = Bench(model, Path(folder), rows, spread, options.max_error)
        # The first of each compiles kernels, imports modules and connects.
        bench.by_hand(range(options.workers))
        bench.on_dask(range(2 * options.workers))
        workers = list(dask_client.run(os.getpid).values())
        with Memory(workers) as memory:
            seconds = [(bench.by_hand(turn), bench.on_dask(turn)) for turn in turns]
    hand_s, dask_s = (sum(one) for one in zip(*seconds, strict=True))
    ratios = [hand / on_dask for hand, on_dask in seconds]
    gigabytes = chunks * chunk_gb
    peaks = [f"{peak / 1e6:.0f} MB" for peak in memory.peaks]
    bound = "without a bound" if options.max_error is None else f"within {options.max_error:g}"
    malloc = "as Dask sets it" if options.dask_malloc else "not set"
    return "\n".join(
        [
            f"{machine('dask', 'zarr')}; {gigabytes:.1f} GB of float32 {bound}, in chunks of "
            f"{1e3 * chunk_gb:.0f} MB, in {len(turns)} turns; MALLOC_TRIM_THRESHOLD_ {malloc}.",
            "",
            "| | MB/s | resident, at most |",
            "|---|---|---|",
            f"| one client by hand | {1e3 * gigabytes / hand_s:.0f} | |",
            f"| `entropyd.dask`, {options.workers} workers | {1e3 * gigabytes / dask_s:.0f} "
            f"| {', '.join(peaks)} |",
            f"| ratio (of turns: {min(ratios):.2f} to {max(ratios):.2f}) | {hand_s / dask_s:.2f} | |",
        ]
    )


@lru_cache(maxsize=1)
def _noise(elements: int, spread: float) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(elements, np.float32) * np.float32(spread)


def chunk_of(number: int, rows: int, spread: float) -> npt.NDArray[np.float32]:
    """The data of a chunk: normally distributed noise, from another place in the same noise for each number.

    It is cheap to make, so that what is measured is coding.
    """
    elements = rows * _COLUMNS
    begin = number * 4099 % elements
    return _noise(2 * elements, spread)[begin : begin + elements].reshape(rows, _COLUMNS).copy()


def _block(rows: int, spread: float, first: int, block_id: Any = None) -> npt.NDArray[np.float32]:
    return chunk_of(first + block_id[0], rows, spread)


class Bench:
    """The two ways, each of which returns seconds."""

    def __init__(
        self, model: entropyd.Model, folder: Path, rows: int, spread: float, max_error: float | None
    ) -> None:
        self._model = model
        self._folder = folder
        self._rows = rows
        self._spread = spread
        self._max_error = max_error

    def by_hand(self, chunks: range) -> float:
        """One client, one chunk after the other."""
        folder = self._folder / "by-hand"
        folder.mkdir()
        began = time.perf_counter()
        for number in chunks:
            data = chunk_of(number, self._rows, self._spread)
            path = folder / f"{number}.entropyd"
            if self._max_error is None:
                self._model.compress(data).save(path)
            else:
                bounded.compress(self._model, data, self._max_error).save(path)
        took = time.perf_counter() - began
        shutil.rmtree(folder)
        return took

    def on_dask(self, chunks: range) -> float:
        """The cluster."""
        folder = self._folder / "on-dask.zarr"
        data = da.map_blocks(
            _block,
            self._rows,
            self._spread,
            chunks.start,
            chunks=((self._rows,) * len(chunks), (_COLUMNS,)),
            meta=np.empty((0, 0), np.float32),
        )
        began = time.perf_counter()
        written = entropyd.dask.compress(data, self._model, folder, max_error=self._max_error)
        took = time.perf_counter() - began
        if written < len(chunks):
            raise RuntimeError(f"{written} of {len(chunks)} chunks were written")
        shutil.rmtree(folder)
        return took


class Memory:
    """The largest resident memory of each process, in bytes, sampled within a `with` block."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self.peaks = [0] * len(pids)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLED_EVERY_S):
            found = [process.memory_info().rss for process in self._processes]
            self.peaks = [max(pair) for pair in zip(self.peaks, found, strict=True)]


if __name__ == "__main__":
    main()
