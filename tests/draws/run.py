"""Builds many priors at random: `python -m tests.draws.run`; `make draws` is 300 ordinary and 500 hard ones.

Tables of ordinary priors are compared with those that TFC builds in a plain process, byte for byte. Hard ones
are built by a worker, each in 10 s, or refused by name. Exit status 0 says that all were.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.errors import EntropydError, InvalidConfigError
from entropyd_server.modeling.build_frames import BuiltTables
from entropyd_server.modeling.builder_pool import BuilderPool
from entropyd_server.modeling.devices import BUILDER
from entropyd_server.modeling.limits import WorkLimits
from entropyd_server.modeling.supervisor import WorkerSupervisor
from entropyd_server.modeling.table_builder import TableBuilder
from entropyd_server.modeling.worker.table_shape import BuildLimits
from entropyd_server.vital import Vital
from tests.draws.configs import hard_config, ordinary_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd import UniversalBatchedConfig

_LIMITS = BuildLimits(max_model_bytes=2**26, max_build_memory_bytes=2**32)
_MOST_SECONDS = 10.0
# TFC's own search may never end.
_TFC_SECONDS = 120


class NoTailsError(Exception):
    """TFC has no tails for a prior; says why."""


@contextmanager
def judged_search() -> Iterator[None]:
    """Ends TFC's search where it takes too long, or stops because it met NaN and with any value."""
    from tensorflow_compression.python.distributions import helpers  # noqa: PLC0415 - imports TensorFlow

    search = helpers.estimate_tails

    def judged(function: Any, target: Any, shape: Any, dtype: Any) -> Any:
        def watched(x: Any) -> Any:
            value = function(x)
            if np.isnan(value.numpy()).any():
                raise NoTailsError("TFC's search met NaN")
            return value

        return search(watched, target, shape, dtype)

    def expired(*_: object) -> None:
        raise NoTailsError(f"TFC's search takes more than {_TFC_SECONDS} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(_TFC_SECONDS)
    helpers.estimate_tails = judged
    try:
        yield
    finally:
        helpers.estimate_tails = search
        signal.alarm(0)


def compared(config: UniversalBatchedConfig) -> str:
    """Builds tables here and as TFC does; `equal`, `different`, or why they were not compared."""
    from entropyd_server.modeling.worker.entropy_model import build_tables  # noqa: PLC0415 - imports TensorFlow
    from tests.support.tfc_models import tfc_model  # noqa: PLC0415

    try:
        built = build_tables(config, _LIMITS)
    except EntropydError:
        return "refused"
    try:
        with judged_search():
            plain = tfc_model(config)
    except NoTailsError as error:
        return str(error)
    same = np.array_equal(built.tables.cdf, plain.cdf.numpy()) and np.array_equal(
        built.tables.cdf_offset, plain.cdf_offset.numpy()
    )
    return "equal" if same else "different"


async def built_in_time(config: UniversalBatchedConfig, builder: TableBuilder) -> tuple[str, float]:
    """Has a worker build tables; `built`, `refused by name` or the error, and the seconds that it took."""
    started = time.monotonic()
    try:
        tables: Any = await builder.build_tables(config)
        how = "built" if isinstance(tables, BuiltTables) else "nothing"
    except InvalidConfigError as error:
        named = {violation.field for violation in error.violations}
        how = "refused by name" if named <= {"prior", "range_coder_precision"} else repr(error)
    except EntropydError as error:
        how = repr(error)
    return how, time.monotonic() - started


def main() -> None:
    """Runs both draws."""
    parser = argparse.ArgumentParser(prog="python -m tests.draws.run", description=__doc__)
    parser.add_argument("--ordinary", type=int, default=300, help="how many are compared with TFC")
    parser.add_argument("--hard", type=int, default=500, help="how many are to be built in time")
    options = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "-1", "3"
    sys.exit(0 if asyncio.run(_hard(options.hard)) & _ordinary(options.ordinary) else 1)


def _ordinary(count: int) -> bool:
    ends: dict[str, int] = {}
    for number in range(count):
        config = ordinary_config(number)
        how = compared(config)
        ends[how] = ends.get(how, 0) + 1
        if how != "equal":
            print(f"ordinary {number}, {config.prior.family}: {how}", flush=True)  # noqa: T201
    print(f"ordinary: {ends}", flush=True)  # noqa: T201
    return "different" not in ends


async def _hard(count: int) -> bool:
    worker = WorkerSupervisor(
        device=BUILDER, limits=WorkLimits(60, _LIMITS.max_build_memory_bytes), max_model_bytes=2**26
    )
    pool = BuilderPool([worker])
    builder = TableBuilder(pool)
    await pool.start(Vital(lambda: os.kill(os.getpid(), signal.SIGTERM)))
    ends: dict[str, int] = {}
    slowest = 0.0
    try:
        for number in range(count):
            config = hard_config(number)
            how, seconds = await built_in_time(config, builder)
            slowest = max(slowest, seconds)
            if seconds > _MOST_SECONDS:
                how = f"in more than {_MOST_SECONDS:g} s"
            ends[how] = ends.get(how, 0) + 1
            if how not in {"built", "refused by name"}:
                print(f"hard {number}, {config.prior.family}: {how}, {seconds:.1f} s", flush=True)  # noqa: T201
    finally:
        await pool.close()
    print(f"hard: {ends}, the slowest in {slowest:.1f} s", flush=True)  # noqa: T201
    return set(ends) <= {"built", "refused by name"}


if __name__ == "__main__":
    main()
