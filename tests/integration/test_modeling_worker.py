"""Real worker processes: what they build, refuse and survive."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract.errors import InvalidConfigError, LimitExceededError, UnavailableError
from entropyd_server.coding.tables import CodingTables
from entropyd_server.modeling.builder_pool import BuilderPool
from entropyd_server.modeling.fit_frames import FITTING, FitState, advance_frame
from entropyd_server.modeling.limits import WorkLimits
from entropyd_server.modeling.protocol import LENGTH, Frame
from entropyd_server.modeling.supervisor import WorkerSupervisor
from entropyd_server.modeling.table_builder import TableBuilder
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from entropyd.contract.prior import Prior
    from entropyd_server.modeling.build_frames import BuiltTables

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")

_WORKER = "entropyd_server.modeling.worker"
_RNG = np.random.default_rng(2024)


class Rig:
    """An event loop that outlives a test, with a supervisor in it that counts its restarts."""

    def __init__(
        self,
        *,
        max_build_seconds: float = 60,
        max_build_memory_bytes: int = 2**31,
        max_model_bytes: int = 2**24,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.reasons: list[str] = []
        self.supervisor = WorkerSupervisor(
            limits=WorkLimits(max_build_seconds, max_build_memory_bytes),
            max_model_bytes=max_model_bytes,
            on_restart=self.reasons.append,
        )
        self.pool = BuilderPool([self.supervisor])
        self.builder = TableBuilder(self.pool)

    def await_(self, awaitable: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            return await asyncio.wait_for(awaitable, 60)

        return self.loop.run_until_complete(bounded())

    def build(self, config: UniversalBatchedConfig) -> BuiltTables:
        tables: BuiltTables = self.await_(self.builder.build_tables(config))
        return tables

    def close(self) -> None:
        self.await_(self.pool.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


def running(**limits: Any) -> Iterator[Rig]:
    before = workers(psutil.Process())
    rig = Rig(**limits)
    rig.await_(rig.pool.start(Vital(pytest.fail)))
    rig.await_(rig.pool.wait_ready())
    yield rig
    rig.close()
    assert workers(psutil.Process()) == before


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    yield from running()


def workers(server: psutil.Process) -> list[psutil.Process]:
    """The workers among a server's children; a zombie has no command line, and counts as well."""
    return [
        child
        for child in server.children()
        if child.status() == psutil.STATUS_ZOMBIE or _WORKER in child.cmdline()
    ]


def config(prior: Prior, **arguments: Any) -> UniversalBatchedConfig:
    return UniversalBatchedConfig(**{"prior": prior, "coding_rank": 3, "num_noise_levels": 3, **arguments})


def normal(
    loc: Any = 0.0, scale: Any = 1.0, dtype: str = "float32", **arguments: Any
) -> UniversalBatchedConfig:
    prior = priors.NoisyNormal(np.asarray(loc, dtype), np.asarray(scale, dtype))
    return config(prior, **arguments)


def mixture(loc: Any, scale: Any, dtype: str = "float32", **arguments: Any) -> UniversalBatchedConfig:
    weight = np.full(2, 0.5, dtype)
    prior = priors.NoisyNormalMixture(np.asarray(loc, dtype), np.asarray(scale, dtype), weight)
    return config(prior, **arguments)


def deep(**filled: float) -> UniversalBatchedConfig:
    """A NoisyDeepFactorized whose matrices, biases or factors are all of one value."""
    plain = priors.NoisyDeepFactorized((2,), (3,), init_scale=1)
    variables = {
        name: np.full(np.shape(value), filled[name.split("_")[0]], np.float32)
        for name, value in plain.parameters.items()
        if name.split("_")[0] in filled
    }
    return config(priors.NoisyDeepFactorized((2,), (3,), init_scale=1, variables=variables))


def lengthy() -> UniversalBatchedConfig:
    """A model of so many rows that TFC takes minutes for them."""
    return normal(np.zeros(2000), num_noise_levels=150)


BUILDABLE = {
    "normal": normal([-1.5, 0.25, 3], [0.5, 2, 6]),
    "normal of scalar shape": normal(0.3, 2),
    "normal of two axes": normal(_RNG.normal(size=(2, 1)), _RNG.uniform(0.2, 4, (1, 3))),
    "normal in float64": normal([0.1, 0.2], [3, 4], "float64", bottleneck_dtype="float64"),
    "float32 prior, float64 bottleneck": normal([0.1, 0.2], [3, 4], bottleneck_dtype="float64"),
    "float64 prior, float16 bottleneck": normal(0.1, 3, "float64", bottleneck_dtype="float16"),
    "bfloat16 bottleneck": normal(0.1, 3, bottleneck_dtype="bfloat16"),
    "one noise level": normal(0.5, 3, num_noise_levels=1),
    "many noise levels": normal(0.5, 1, num_noise_levels=200),
    "lowest precision that fits": normal(0, 1e-6, range_coder_precision=2),
    "highest precision": normal(0, 900, range_coder_precision=16, num_noise_levels=2),
    "small tail mass": normal(0, 1, "float64", tail_mass=1e-12),
    "large tail mass": normal([0, 0.5], [1, 9], tail_mass=0.99),
    "tiny scale": normal(0.3, 1e-30),
    "far from 0": normal(1e6, 1),
    "far from 0 in float64": normal(5e8, 1, "float64"),
    "stateless, with a Laplace tail": normal(
        0, 1, stateless=True, laplace_tail_mass=0.1, expected_grads=True
    ),
    "logistic": config(priors.NoisyLogistic(loc=[0, 1], scale=[0.5, 3])),
    "laplace": config(priors.NoisyLaplace(loc=[0, 1], scale=[0.5, 3])),
    "normal mixture in float64": mixture([0, 1], [[1, 2], [2, 1]], "float64"),
    "logistic mixture": config(priors.NoisyLogisticMixture(loc=[0, 1], scale=[1, 0.5], weight=[0.25, 0.75])),
    "deep factorized": config(priors.NoisyDeepFactorized((2,), (3, 3), init_scale=2)),
    "deep factorized in float64": config(
        priors.NoisyDeepFactorized((1, 2), (), init_scale=2, dtype=np.dtype("float64"))
    ),
}


@pytest.mark.parametrize("wanted", BUILDABLE.values(), ids=BUILDABLE)
def test_built_tables_are_those_of_tfc_in_a_plain_process(rig: Rig, wanted: UniversalBatchedConfig) -> None:
    from tests.support.tfc_models import tfc_model  # noqa: PLC0415

    built, plain = rig.build(wanted), tfc_model(wanted)
    assert built.tables.cdf.dtype == built.tables.cdf_offset.dtype == np.int32
    np.testing.assert_array_equal(built.tables.cdf, plain.cdf)
    np.testing.assert_array_equal(built.tables.cdf_offset, plain.cdf_offset)
    CodingTables.parse(built.tables.cdf, built.tables.cdf_offset)


REFUSED = {
    # TFC aborts on these three.
    "precision 1": (normal(range_coder_precision=1), "range_coder_precision", "at least 4"),
    "one interval short": (normal(range_coder_precision=3), "range_coder_precision", "room for 7, but"),
    "wide prior": (normal(0, 3000), "range_coder_precision", "17316 integers .* at least 15"),
    # It warns, and then aborts or takes all memory.
    "wider than any precision": (normal([0, 1], [1, 1e5]), "prior", r"in element \[1\] .* room for 65535"),
    "far wider": (normal(0, 1e30), "prior", "narrower"),
    # It casts an infinite quantile to an integer.
    "infinite quantile": (normal(tail_mass=1e-12), "tail_mass", "cannot tell from 0; .* least 5.96e-08"),
    "infinite quantile in float64": (normal(dtype="float64", tail_mass=1e-20), "tail_mass", "1.11e-16"),
    "scale that overflows": (normal(0, 3e38), "prior", "tail at -inf"),
    # It gives tables of one integer each that have nothing to do with the prior.
    "beyond exact halves": (normal(9e6), "prior", "float64 parameters"),
    "beyond exact integers": (normal([0, 1e9]), "prior", r"1000000000 from 0 in element \[1\]"),
    "beyond int32": (normal(1e30), "prior", "from 0"),
    "beyond the coder": (normal(1e9, dtype="float64"), "prior", "reach 536870912"),
    # It raises InvalidArgumentError.
    "subnormal scale": (normal(0.5, 1e-39), "prior", "density nan .* float64"),
    "negative differences": (
        config(priors.NoisyLaplace(loc=0, scale=3000), range_coder_precision=16, tail_mass=1e-4),
        "prior",
        "density -.*e-08",
    ),
    "shapes without broadcast kernel": (
        normal(np.zeros((1, 2) * 4), np.ones((2, 1) * 4), coding_rank=8),
        "prior",
        "fewer axes",
    ),
    # Its search for the tails never ends.
    "flat cumulative": (deep(matrix=-100), "prior", "no tail in element .* rises from 0 to 1"),
}


@pytest.mark.parametrize(("refused", "field", "description"), REFUSED.values(), ids=REFUSED)
def test_a_configuration_that_tfc_cannot_build_is_refused_by_field(
    rig: Rig, refused: UniversalBatchedConfig, field: str, description: str
) -> None:
    with pytest.raises(InvalidConfigError, match=description) as caught:
        rig.build(refused)
    assert [violation.field for violation in caught.value.violations] == [field]


ENDLESS_FOR_TFC = {
    "mixture of points": (mixture([0, 1], [1e-30, 1e-30]), (0, 1)),
    "mixture far from 0": (mixture([20, 21], [1, 1]), (17, 24)),
    "mixture with a gap": (mixture([0, 1], [1e-3, 1e-3]), (0, 1)),
    "mixture with a wide gap": (mixture([0, 1e4], [1, 1], range_coder_precision=16), (-3, 10003)),
    "one tail far in a flat region": (mixture([12, 12], [1, 1]), (9, 15)),
    "saturated cumulative": (deep(factor=-100, matrix=1, bias=0), (-2, 2)),
    "steep cumulative": (deep(matrix=1e15), (0, 0)),
}


@pytest.mark.parametrize(("wanted", "tails"), ENDLESS_FOR_TFC.values(), ids=ENDLESS_FOR_TFC)
def test_a_prior_whose_tails_tfc_never_finds_is_built(
    rig: Rig, wanted: UniversalBatchedConfig, tails: tuple[int, int]
) -> None:
    built = rig.build(wanted)
    tables = CodingTables.parse(built.tables.cdf, built.tables.cdf_offset)
    heads = np.flatnonzero(tables.cdf < 0)
    # Without the precision, the leading 0 and the escape.
    lasts = built.tables.cdf_offset + np.diff(np.append(heads, len(tables.cdf))) - 4
    first, last = tails
    assert set(built.tables.cdf_offset) <= {first - 1, first}
    assert set(lasts) <= {last, last + 1, last + 2}


TOO_MUCH = {
    "rows": (normal(np.zeros(2000), num_noise_levels=65535), "max_model_bytes"),
    "tables": (normal(np.zeros(500), 500, range_coder_precision=13), "max_model_bytes"),
    "densities": (
        normal(np.zeros(5000), np.r_[8000, np.ones(4999)], range_coder_precision=16),
        "max_build_memory_bytes",
    ),
}


@pytest.mark.parametrize(("large", "limit"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_tables_above_a_limit_are_refused_before_they_are_built(
    rig: Rig, large: UniversalBatchedConfig, limit: str
) -> None:
    with pytest.raises(LimitExceededError, match=f"the server's {limit} is") as caught:
        rig.build(large)
    assert caught.value.metadata["limit"] == limit


def test_refusals_cost_no_worker(rig: Rig) -> None:
    assert rig.supervisor.ready
    assert rig.reasons == []


def test_the_worker_says_what_it_computes_with(rig: Rig) -> None:
    named = {"python", "numpy", "tensorflow", "tensorflow_compression", "tensorflow_probability"}
    assert set(rig.supervisor.versions) == named
    assert rig.build(normal()).built_with == rig.supervisor.versions


def test_a_build_that_loses_two_workers_fails_and_no_other_does(rig: Rig) -> None:
    async def kill_twice_during_build() -> tuple[BaseException, BuiltTables]:
        in_flight = asyncio.create_task(rig.builder.build_tables(lengthy()))
        queued = asyncio.create_task(rig.builder.build_tables(normal()))
        await asyncio.wait({in_flight}, timeout=0.5)
        (worker,) = workers(psutil.Process())
        worker.kill()
        # It comes before the build that is done once more.
        tables = await queued
        await asyncio.wait({in_flight}, timeout=0.5)
        assert not in_flight.done()
        (worker,) = workers(psutil.Process())
        worker.kill()
        (lost,) = await asyncio.gather(in_flight, return_exceptions=True)
        assert isinstance(lost, BaseException)
        return lost, tables

    restarts = rig.supervisor.restarts
    lost, tables = rig.await_(kill_twice_during_build())
    assert isinstance(lost, UnavailableError)
    assert (lost.reason, lost.retry_after_s) == ("WORKER_LOST", 5)
    assert "SIGKILL" in lost.message
    assert tables.tables.cdf_offset.shape == (3,)
    assert rig.build(normal()).tables.cdf_offset.shape == (3,)
    assert rig.supervisor.restarts == restarts + 2
    assert rig.reasons[-1] == "died"


def test_a_turn_that_cannot_wait_is_refused_while_there_is_no_worker() -> None:
    rig = Rig()  # whose worker is never started

    async def take_turn() -> None:
        async with rig.supervisor.lease(only_if_ready=True):
            raise AssertionError("there is no worker")

    with pytest.raises(UnavailableError, match="was lost") as caught:
        rig.await_(take_turn())
    assert caught.value.reason == "WORKER_LOST"
    rig.close()


def test_a_fit_that_a_worker_does_not_know_was_lost_with_the_one_before(rig: Rig) -> None:
    async def advance() -> Frame:
        async with rig.supervisor.lease() as exchange:
            return await exchange(advance_frame("begun elsewhere", 0.1), FITTING)

    with pytest.raises(UnavailableError, match="the fit with it") as caught:
        FitState.from_frame(rig.await_(advance()))
    assert caught.value.reason == "WORKER_LOST"


def test_a_cancelled_build_frees_the_worker_for_the_next(rig: Rig) -> None:
    async def cancel_during_build() -> BuiltTables:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rig.builder.build_tables(lengthy()), 0.2)
        return await rig.builder.build_tables(normal())

    assert rig.await_(cancel_during_build()).tables.cdf_offset.shape == (3,)
    assert rig.reasons[-1] == "cancelled"


def test_a_call_cancelled_while_it_waits_costs_nothing(rig: Rig) -> None:
    async def cancel_while_waiting() -> BuiltTables:
        first = asyncio.create_task(rig.builder.build_tables(normal()))
        second = asyncio.create_task(rig.builder.build_tables(lengthy()))
        await asyncio.sleep(0)
        second.cancel()
        return await first

    restarts = rig.supervisor.restarts
    assert rig.await_(cancel_while_waiting()).tables.cdf_offset.shape == (3,)
    assert rig.supervisor.restarts == restarts


def test_a_build_past_a_limit_is_ended_and_the_next_one_works() -> None:
    # So little memory that the search for the tails of a mixture exceeds it, once TensorFlow loads kernels.
    for rig in running(max_build_memory_bytes=2**19):
        with pytest.raises(LimitExceededError, match="max_build_memory_bytes of 524288") as caught:
            rig.build(mixture([9, 9], [1, 1]))
        assert caught.value.metadata == {"limit": "max_build_memory_bytes", "value": "524288"}
    # Enough for the second build on a busy machine, too.
    for rig in running(max_build_seconds=4):
        with pytest.raises(LimitExceededError, match=r"max_build_seconds of 4: .* many rows") as caught:
            rig.build(lengthy())
        assert caught.value.metadata == {"limit": "max_build_seconds", "value": "4"}
        assert rig.build(normal()).tables.cdf_offset.shape == (3,)
        assert rig.reasons == ["time_limit"]


def test_closing_ends_the_build_in_flight() -> None:
    for rig in running():
        in_flight = rig.loop.create_task(rig.builder.build_tables(lengthy()))
        rig.await_(asyncio.wait({in_flight}, timeout=0.2))
        rig.await_(rig.pool.close())
        with pytest.raises(UnavailableError) as caught:
            rig.await_(in_flight)
        assert caught.value.reason == "DRAINING"
        with pytest.raises(UnavailableError):
            rig.build(normal())


def test_a_worker_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        rig.await_(rig.pool.start(Vital(pytest.fail)))
        waiting = rig.loop.create_task(rig.builder.build_tables(normal()))
        while not rig.reasons:
            rig.await_(asyncio.sleep(0.05))
    assert not waiting.done()
    assert rig.await_(waiting).tables.cdf_offset.shape == (3,)
    assert set(rig.reasons) == {"start_failed"}
    rig.close()


def test_no_worker_outlives_a_killed_server() -> None:
    root = Path(__file__).parents[2]
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True, cwd=root)
    assert server.stdout is not None
    with server.stdout as lines:
        assert lines.readline() == "building\n"
        (worker,) = workers(psutil.Process(server.pid))
        server.kill()
        server.wait()
    worker.wait(timeout=5)


_SERVER = """
import asyncio
from entropyd_server.vital import Vital
from tests.integration.test_modeling_worker import Rig, lengthy

rig = Rig()
rig.await_(rig.pool.start(Vital(lambda: None)))
rig.await_(rig.pool.wait_ready())
build = rig.loop.create_task(rig.builder.build_tables(lengthy()))
rig.await_(asyncio.wait({build}, timeout=0.5))
print("building", flush=True)
rig.loop.run_until_complete(build)
"""


def test_stray_prints_do_not_reach_the_pipe() -> None:
    code = """
import os, sys
from entropyd_server.modeling.worker import __main__ as worker
from entropyd_server.modeling.protocol import Frame, write_frame
requests, answers = worker._take_pipes()
print("stray", flush=True)
os.write(1, b"deeper\\n")
assert sys.stdin.read() == ""
write_frame(answers, Frame("echo", {"read": requests.read().decode()}))
"""
    run = subprocess.run([sys.executable, "-c", code], input=b"request", capture_output=True, check=True)
    frame = Frame.from_blob(run.stdout[LENGTH.size :])
    assert (frame.kind, frame.metadata) == ("echo", {"read": "request"})
    assert run.stderr == b"stray\ndeeper\n"
