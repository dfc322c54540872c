"""Fits against sources of known entropy."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import entropyd
from entropyd import priors
from entropyd.cli.main import entropyd as command_line
from entropyd.contract.kinds import config_to_message
from entropyd.fitting import FITTED_FAMILIES, starting_prior
from entropyd.v1 import model_pb2, model_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from entropyd_server.local import LocalServer

RNG = np.random.default_rng(2)
ROWS = 20_000
# So many that chance moves the rate by about 0.1 % (standard deviation).
HELD_OUT = 2**17
REACH = 120

Array = np.ndarray[Any, Any]


class Source(NamedTuple):
    """A source of numbers: draws so many with a generator, and its cumulative."""

    draw: Callable[[np.random.Generator, int], Any]
    cumulative: Callable[[Array], Any]


def _mixture(rng: np.random.Generator, size: int) -> Array:
    return np.where(rng.random(size) < 0.3, rng.normal(-6, 1, size), rng.normal(5, 2, size))


GAUSSIAN = Source(lambda rng, n: rng.normal(2, 3, n), lambda t: stats.norm.cdf(t, 2, 3))
# Each fitted from what `starting_prior` finds suited; the elements of prior_shape are independent.
SOURCES: dict[str, tuple[Source, ...]] = {
    "Gaussian": (GAUSSIAN,),
    "Laplace": (Source(lambda rng, n: rng.laplace(-1, 2, n), lambda t: stats.laplace.cdf(t, -1, 2)),),
    "mixture": (Source(_mixture, lambda t: 0.3 * stats.norm.cdf(t, -6, 1) + 0.7 * stats.norm.cdf(t, 5, 2)),),
    "integers": (
        Source(
            lambda rng, n: np.rint(rng.laplace(0, 4, n)),
            lambda t: stats.laplace.cdf(np.floor(t) + 0.5, 0, 4),
        ),
    ),
    "few values": (
        Source(
            lambda rng, n: rng.choice([-4.3, 0, 7], n, p=[0.2, 0.5, 0.3]),
            lambda t: 0.2 * (t >= -4.3) + 0.5 * (t >= 0) + 0.3 * (t >= 7),
        ),
    ),
    "Gaussian, constant": (GAUSSIAN, Source(lambda rng, n: np.full(n, 4.3), lambda t: 1.0 * (t >= 4.3))),
}


def entropy(source: Source, levels: int) -> float:
    """Bits that a sample costs at the least, once quantized universally.

    What is coded is round(x - offset), and the decoder knows the offset: the entropy of that integer, as a
    mean over the noise levels.
    """
    offsets = (np.arange(levels) + 1) / (levels + 1) - 0.5
    edges = np.arange(-REACH, REACH + 1) + 0.5 + offsets[:, None]
    probabilities = np.diff(source.cumulative(edges), axis=1)
    assert np.allclose(probabilities.sum(axis=1), 1)
    return float(stats.entropy(probabilities, base=2, axis=1).mean())


def config(samples: Any, family: str | None = None, **arguments: Any) -> entropyd.UniversalBatchedConfig:
    prior = starting_prior(samples, family)
    return entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2, expected_grads=True, **arguments)


@pytest.mark.parametrize("name", SOURCES)
def test_held_out_samples_code_to_the_entropy_of_their_source(
    client: entropyd.Client, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sources = SOURCES[name]
    rng = np.random.default_rng(7)
    samples = np.stack([source.draw(rng, ROWS + HELD_OUT) for source in sources], -1).astype(np.float32)
    model = client.fit_model(config(samples[:ROWS]), samples[:ROWS])
    held_out = samples[None, ROWS:]
    coded = 8 * len(model.compress(held_out).payload) / HELD_OUT
    estimate = float(model(held_out, training=False)[1][0]) / HELD_OUT
    # Of all elements together. A constant has none to be relative to; it costs what its row keeps for others,
    # 2^-12 for each of at most 3 integers and the escape: 0.0014 bits, of which the bound must have room too.
    bound = sum(entropy(source, model.num_noise_levels) for source in sources)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{name:19} {model.prior.family:27} entropy {bound:.4f}, coded {coded:.4f} "
            f"({coded / bound - 1:+.2%}), estimated {estimate:.4f} ({coded / estimate - 1:+.2%}) ",
            end="",
        )
    assert abs(coded - bound) < 0.01 * bound
    assert abs(coded - estimate) < 0.02 * estimate


def test_progress_comes_while_it_fits_and_a_raise_ends_it(client: entropyd.Client) -> None:
    samples = RNG.normal(0, 3, (2000, 1)).astype(np.float32)
    seen: list[entropyd.FitProgress] = []

    class EnoughError(Exception):
        pass

    def progress(state: entropyd.FitProgress) -> None:
        seen.append(state)
        if len(seen) == 2:
            raise EnoughError

    # Without tables, which would only have to be built.
    wanted = config(samples, "NoisyDeepFactorized", laplace_tail_mass=1e-3, compression=False)
    with pytest.raises(EnoughError):
        client.fit_model(wanted, samples, progress=progress)
    assert seen[1].step > seen[0].step
    assert seen[1].remaining_seconds > 0
    # The device is free again.
    assert client.create_model(wanted)(samples[None], training=False)[1] > 0


def test_the_family_is_suited_to_the_samples() -> None:
    few = RNG.choice([-4.3, 0, 7], (500, 2))
    integers = np.rint(RNG.laplace(0, 20, (500, 2)))
    assert starting_prior(few).family == "NoisyMixtureSameFamily"
    assert starting_prior(integers).family == "NoisyRoundedDeepFactorized"
    assert starting_prior(np.stack([few[:, 0], integers[:, 0] / 2], -1)).family == "NoisyDeepFactorized"


@pytest.mark.parametrize("family", FITTED_FAMILIES)
def test_every_fitted_family_begins_where_the_samples_are(family: str) -> None:
    samples = np.stack([RNG.normal(1000, 5, 500), RNG.normal(0, 0.1, 500)], -1).astype(np.float32)
    prior = starting_prior(samples, family)
    assert (prior.family, prior.batch_shape, prior.dtype) == (family, (2,), "float32")


def test_a_mixture_of_mixtures_is_trained_too(client: entropyd.Client) -> None:
    samples = _mixture(RNG, 5000).astype(np.float32)[:, None]
    components = priors.tfp("Laplace", loc=[[-4.0, 4.0]], scale=3.0)
    start = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyMixtureSameFamily([0.5, 0.5], components), coding_rank=1
    )
    seen: list[entropyd.FitProgress] = []
    model = client.fit_model(start, samples, max_steps=100, progress=seen.append)
    assert model.prior.family == "NoisyMixtureSameFamily"
    assert seen[-1].bits_per_element < seen[0].bits_per_element - 0.01


GOOD = RNG.normal(0, 3, (400, 2)).astype(np.float32)
BAD: dict[str, tuple[Any, str]] = {
    "nan": (np.where(GOOD[3, 1] == GOOD, np.float32(np.nan), GOOD), r"samples\[3, 1\] is NaN"),
    "constant": (np.full((400, 2), 5, np.float32), "samples is 5.0 everywhere"),
    "too few": (GOOD[:50], "samples has 50 rows, 45 of them to train on; expected at least 100"),
    "none": (GOOD[:0], "samples has 0 rows"),
    "shape": (GOOD[:, :1], r"samples has shape \(400, 1\); expected leading axes"),
    "dtype": (GOOD.astype(np.float64), "samples has dtype float64"),
}


@pytest.mark.parametrize(("samples", "message"), BAD.values(), ids=BAD)
def test_samples_that_say_nothing_are_refused_by_name(
    client: entropyd.Client, samples: Any, message: str
) -> None:
    with pytest.raises(entropyd.InvalidTensorError, match=message):
        client.fit_model(config(GOOD, "NoisyNormal"), samples)


@pytest.mark.parametrize(("bad", "named"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_the_element_that_is_not_finite_is_named_wherever_it_is(
    client: entropyd.Client, server: LocalServer, tmp_path: Path, bad: float, named: str
) -> None:
    samples = np.random.default_rng(0).normal(0, 1, (300_000, 2)).astype(np.float32)
    samples[200_000, 1] = bad  # not in the first message
    expected = rf"samples\[200000, 1\] is {named}; expected finite numbers"
    with pytest.raises(entropyd.InvalidTensorError, match=expected):
        starting_prior(samples, "NoisyNormal")
    prior = priors.NoisyNormal(loc=[0.0, 0.0], scale=1.0)
    with pytest.raises(entropyd.InvalidTensorError, match=expected):
        client.fit_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1), samples)
    np.save(tmp_path / "good.npy", samples[:9])
    np.save(tmp_path / "bad.npy", samples.reshape(3, 100_000, 2))
    command = ["--server", server.target, "fit", "--coding-rank", "1"]
    ran = CliRunner().invoke(command_line, [*command, str(tmp_path / "good.npy"), str(tmp_path / "bad.npy")])
    assert ran.exit_code == 1
    assert f"bad.npy[2, 0, 1] is {named}; expected finite numbers" in ran.stderr


def test_a_fit_that_begins_nowhere_near_the_samples_is_refused(client: entropyd.Client) -> None:
    far = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal([1e6, 1e6], [1e-3, 1e-3]), coding_rank=1)
    with pytest.raises(entropyd.InvalidConfigError, match=r"prior gives the samples .* begin nearer"):
        client.fit_model(far, GOOD, max_steps=100)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_steps": 10**6}, "max_steps"),
        ({"max_steps": 2**32}, "max_steps"),
        ({"max_steps": -1}, "max_steps"),
        ({"validation_share": 1.0}, "validation_share"),
    ],
)
def test_options_out_of_range_are_refused(
    client: entropyd.Client, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(entropyd.InvalidRequestError, match=field):
        client.fit_model(config(GOOD, "NoisyNormal"), GOOD, **options)


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_the_command_fits_names_and_draws(
    server: LocalServer, client: entropyd.Client, tmp_path: Path, suffix: str
) -> None:
    np.save(tmp_path / "a.npy", GOOD)
    np.save(tmp_path / "b.npy", GOOD[:100].reshape(10, 10, 2))
    command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, "--json", "fit"]
    command += ["--coding-rank", "1", "--prior", "NoisyNormal", "--max-steps", "100"]
    command += ["a.npy", "b.npy", "--report", f"fit{suffix}", "--name", "fitted-v1"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert client.model("fitted-v1").id == figures["model_id"]
    drawn = (tmp_path / f"fit{suffix}").read_bytes()
    if suffix == ".png":
        assert drawn.startswith(b"\x89PNG")
    else:
        assert figures["model_id"].encode() in drawn
        # One row of figures for each element, and the picture, all in the one file.
        assert len(re.findall(rb"<tr><td>\d</td>(<td>[+-]?\d\.\d{3}</td>){3}</tr>", drawn)) == 2
        (picture,) = re.findall(rb'src="data:image/png;base64,([^"]+)"', drawn)
        assert base64.b64decode(picture).startswith(b"\x89PNG")


def test_the_command_ends_with_what_it_learned_and_then_the_id(server: LocalServer, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GOOD)
    command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, "fit", "--plot"]
    command += ["--coding-rank", "1", "--prior", "NoisyNormal", "--max-steps", "100", "a.npy"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch("[0-9a-f]{64}\n", ran.stdout)
    *plot, learned = ran.stderr.splitlines()
    assert re.fullmatch(
        r"NoisyNormal in \d+ steps: ([\d.]+) bits per symbol, entropy of the samples [\d.]+ \(\+.*%\)",
        learned,
    )
    assert [line.split()[0] for line in plot] == ["element", "samples", "model"] * 2


REFUSED_REPORTS: dict[str, tuple[str, str]] = {
    "format": ("fit.pdf", "report is fit.pdf"),
    "folder": ("missing/fit.png", "missing, which is no folder"),
    "matplotlib": ("fit.png", r"pip install 'entropyd\[report\]'"),
}


@pytest.mark.parametrize("case", REFUSED_REPORTS)
def test_a_report_that_cannot_be_drawn_is_refused_before_any_work(tmp_path: Path, case: str) -> None:
    report, message = REFUSED_REPORTS[case]
    if case == "matplotlib":
        # The folder that the command runs in comes first, so this is as if it was not installed.
        (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    command = [sys.executable, "-m", "entropyd.cli", "--server", "unix:nowhere", "fit"]
    command += ["--coding-rank", "1", "a.npy", "--report", report]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    # Neither server nor file were looked for.
    assert re.search(message, ran.stderr), ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "wanted",
    [
        entropyd.LocationScaleIndexedConfig(priors.NoisyNormal(0.0, [1.0, 2.0]), 1),
        entropyd.ContinuousIndexedConfig(priors.NoisyNormal(0.0, [1.0, 2.0]), 1),
        entropyd.UniversalIndexedConfig(priors.NoisyNormal(0.0, [1.0, 2.0]), 1),
        entropyd.PowerLawConfig(1),
    ],
    ids=lambda wanted: wanted.kind,
)
def test_kinds_without_a_batch_of_priors_are_refused_by_client_and_server(
    server: LocalServer, client: entropyd.Client, wanted: Any
) -> None:
    refusal = f"config.kind is {wanted.kind}; expected universal_batched or continuous_batched"
    with pytest.raises(entropyd.InvalidConfigError, match=refusal):
        client.fit_model(wanted, GOOD)
    with grpc.insecure_channel(server.target) as channel:
        configuration = model_pb2.FitConfiguration(config=config_to_message(wanted))
        stub = model_pb2_grpc.ModelServiceStub(channel)
        with pytest.raises(grpc.RpcError, match=refusal):
            list(stub.FitModel(iter([model_pb2.FitModelRequest(configuration=configuration)])))
