"""Fits against sources of known entropy."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

import entropyd
from entropyd import priors
from entropyd.fitting import FITTED_FAMILIES, starting_prior

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from entropyd_server.local import LocalServer

ROWS = 20_000
RNG = np.random.default_rng(2)


def _mixture(size: int) -> np.ndarray[Any, Any]:
    return np.where(RNG.random(size) < 0.3, RNG.normal(-6, 1, size), RNG.normal(5, 2, size))


# Samples and cumulative of each source, and the family that is fitted.
SOURCES: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any], str]] = {
    "normal": (lambda n: RNG.normal(2, 3, n), lambda t: stats.norm.cdf(t, 2, 3), "NoisyDeepFactorized"),
    "laplace": (
        lambda n: RNG.laplace(-1, 2, n),
        lambda t: stats.laplace.cdf(t, -1, 2),
        "NoisyDeepFactorized",
    ),
    "mixture": (
        _mixture,
        lambda t: 0.3 * stats.norm.cdf(t, -6, 1) + 0.7 * stats.norm.cdf(t, 5, 2),
        "NoisyDeepFactorized",
    ),
    "integers": (
        lambda n: RNG.poisson(2.0, n),
        lambda t: stats.poisson.cdf(t, 2.0),
        "NoisyRoundedDeepFactorized",
    ),
}


def entropy(cumulative: Callable[[Any], Any]) -> float:
    """Bits of a source with uniform noise: the differential entropy of their sum."""
    grid = np.linspace(-80, 80, 200_001)
    density = cumulative(grid + 0.5) - cumulative(grid - 0.5)
    bits = -density * np.log2(np.where(density > 0, density, 1))
    return float(bits.sum() * (grid[1] - grid[0]))


def config(samples: Any, family: str, **arguments: Any) -> entropyd.UniversalBatchedConfig:
    prior = starting_prior(samples, family)
    return entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2, expected_grads=True, **arguments)


@pytest.mark.parametrize("name", SOURCES)
def test_held_out_samples_code_to_the_entropy_of_their_source(client: entropyd.Client, name: str) -> None:
    draw, cumulative, family = SOURCES[name]
    samples = draw(2 * ROWS).astype(np.float32)[:, None]
    model = client.fit_model(config(samples[:ROWS], family), samples[:ROWS])
    held_out = samples[None, ROWS:]
    coded = 8 * len(model.compress(held_out).payload) / ROWS
    estimate = float(model(held_out, training=False)[1][0]) / ROWS
    bound = entropy(cumulative)
    # Seen with `pytest -s`.
    print(f"{name}: entropy {bound:.4f}, coded {coded:.4f}, estimated {estimate:.4f} bits per element")  # noqa: T201
    assert coded < 1.01 * bound + 0.02  # what ROWS samples leave to chance
    assert abs(coded - estimate) < 0.02 * coded


def test_a_constant_dimension_costs_next_to_nothing(client: entropyd.Client) -> None:
    samples = np.stack([RNG.normal(0, 3, ROWS), np.full(ROWS, 4.3)], axis=-1).astype(np.float32)
    model = client.fit_model(config(samples, "NoisyDeepFactorized"), samples)
    held_out = np.stack([RNG.normal(0, 3, ROWS), np.full(ROWS, 4.3)], axis=-1).astype(np.float32)
    coded = 8 * len(model.compress(held_out[None]).payload) / ROWS
    bound = entropy(lambda t: stats.norm.cdf(t, 0, 3))
    print(f"normal and constant: entropy {bound:.4f}, coded {coded:.4f} bits per pair")  # noqa: T201
    assert coded < 1.01 * bound + 0.04


def test_progress_comes_while_it_fits_and_a_raise_ends_it(client: entropyd.Client) -> None:
    samples = RNG.normal(0, 3, (2000, 1)).astype(np.float32)
    seen: list[entropyd.FitProgress] = []

    class EnoughError(Exception):
        pass

    def progress(state: entropyd.FitProgress) -> None:
        seen.append(state)
        if len(seen) == 2:
            raise EnoughError

    wanted = config(samples, "NoisyDeepFactorized", laplace_tail_mass=1e-3)
    with pytest.raises(EnoughError):
        client.fit_model(wanted, samples, progress=progress)
    assert seen[1].step > seen[0].step
    assert seen[1].remaining_seconds > 0
    # The device is free again.
    assert client.create_model(wanted)(samples[None], training=False)[1] > 0


@pytest.mark.parametrize("family", FITTED_FAMILIES)
def test_every_fitted_family_begins_where_the_samples_are(family: str) -> None:
    samples = np.stack([RNG.normal(1000, 5, 500), RNG.normal(0, 0.1, 500)], -1).astype(np.float32)
    prior = starting_prior(samples, family)
    assert (prior.family, prior.batch_shape, prior.dtype) == (family, (2,), "float32")


def test_a_mixture_of_mixtures_is_trained_too(client: entropyd.Client) -> None:
    samples = _mixture(5000).astype(np.float32)[:, None]
    components = priors.tfp("Laplace", loc=[[-4.0, 4.0]], scale=3.0)
    start = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyMixtureSameFamily([0.5, 0.5], components), coding_rank=1
    )
    model = client.fit_model(start, samples, max_steps=300)
    assert model.prior.family == "NoisyMixtureSameFamily"
    assert (
        model(samples, training=False)[1].mean()
        < client.create_model(start)(samples, training=False)[1].mean()
    )


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


def test_a_fit_that_begins_nowhere_near_the_samples_is_refused(client: entropyd.Client) -> None:
    far = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal([1e6, 1e6], [1e-3, 1e-3]), coding_rank=1)
    with pytest.raises(entropyd.InvalidConfigError, match=r"prior gives the samples .* begin nearer"):
        client.fit_model(far, GOOD)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"max_steps": 10**6}, "max_steps"), ({"validation_share": 1.0}, "validation_share")],
)
def test_options_out_of_range_are_refused(
    client: entropyd.Client, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(entropyd.InvalidRequestError, match=field):
        client.fit_model(config(GOOD, "NoisyNormal"), GOOD, **options)


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_the_command_fits_and_draws(server: LocalServer, tmp_path: Path, suffix: str) -> None:
    np.save(tmp_path / "a.npy", GOOD)
    np.save(tmp_path / "b.npy", GOOD[:100].reshape(10, 10, 2))
    command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, "--json", "fit"]
    command += ["--coding-rank", "1", "--prior", "NoisyNormal", "a.npy", "b.npy", "--report", f"fit{suffix}"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    drawn = (tmp_path / f"fit{suffix}").read_bytes()
    if suffix == ".png":
        assert drawn.startswith(b"\x89PNG")
    else:
        assert figures["model_id"].encode() in drawn
        assert drawn.count(b"<tr>") == 3


def test_a_report_of_another_format_is_refused_before_the_fit(server: LocalServer, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GOOD)
    command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, "fit", "--coding-rank", "1"]
    command += ["a.npy", "--report", "fit.pdf"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "report is fit.pdf" in ran.stderr
