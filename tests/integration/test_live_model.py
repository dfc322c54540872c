"""Live models in this process, against TFC's own calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from entropyd import UniversalBatchedConfig, priors
from entropyd_server.modeling.perturbation import PerturbKey, PerturbUnits
from entropyd_server.modeling.worker import live_model
from entropyd_server.modeling.worker.live_model import LiveModel
from tests.support.tfc_models import tfc_prior

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior
    from entropyd_server.modeling.perturbation import Array, Perturbed

RNG = np.random.default_rng(5)
UNITS = 21


def _priors(shape: tuple[int, ...]) -> dict[str, Prior]:
    loc, scale = RNG.normal(size=shape).astype("f"), RNG.uniform(0.3, 5, shape).astype("f")
    three = (*shape, 3)
    weight = np.full(three, 1 / 3, "f")
    return {
        "normal": priors.NoisyNormal(loc, scale),
        "logistic": priors.NoisyLogistic(loc, scale),
        "deep": priors.NoisyDeepFactorized(shape),
        "mixture": priors.NoisyNormalMixture(RNG.normal(size=three).astype("f"), np.ones(three, "f"), weight),
    }


def _perturb(live: LiveModel, units: Array, *, training: bool = False, gradient: bool = False) -> Perturbed:
    return live.perturb(PerturbKey("", training, gradient, units.shape[1:]), PerturbUnits(units))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7)], ids=str)
@pytest.mark.parametrize("laplace_tail_mass", [0.0, 0.01])
def test_what_a_unit_costs_does_not_depend_on_its_company(
    shape: tuple[int, ...], laplace_tail_mass: float
) -> None:
    for name, prior in _priors(shape).items():
        rank = len(shape) + 1
        config = UniversalBatchedConfig(prior=prior, coding_rank=rank, laplace_tail_mass=laplace_tail_mass)
        live = LiveModel(config)
        x = RNG.normal(0, 3, (UNITS, int(RNG.integers(1, 6)), *shape)).astype(np.float32)
        together = _perturb(live, x)
        for unit in range(UNITS):
            alone = _perturb(live, x[unit : unit + 1])
            assert alone.perturbed.tobytes() == together.perturbed[unit : unit + 1].tobytes(), name
            assert alone.bits.tobytes() == together.bits[unit : unit + 1].tobytes(), name


def test_units_that_are_never_joined_cost_the_same_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_model, "LONE_UNIT_ELEMENTS", 8)
    live = LiveModel(UniversalBatchedConfig(prior=priors.NoisyNormal(0, 2), coding_rank=1))
    x = RNG.normal(0, 3, (5, 9)).astype(np.float32)
    together = _perturb(live, x, gradient=True)
    for unit in range(5):
        assert _perturb(live, x[unit : unit + 1]).bits.tobytes() == together.bits[unit : unit + 1].tobytes()


@pytest.mark.parametrize("family", ["normal", "logistic", "deep", "mixture"])
@pytest.mark.parametrize(("dtype", "levels"), [("float32", 15), ("float64", 15), ("float64", 6)])
def test_bits_without_training_are_those_of_tfc(family: str, dtype: str, levels: int) -> None:
    prior = _priors((3,))[family]
    config = UniversalBatchedConfig(
        prior=prior, coding_rank=2, bottleneck_dtype=dtype, num_noise_levels=levels
    )
    x = RNG.normal(0, 3, (4, 6, 3)).astype(dtype)
    ours = _perturb(LiveModel(config), x)
    perturbed, bits = _tfc(config)(x, training=False)
    assert ours.perturbed.tobytes() == perturbed.numpy().tobytes()
    np.testing.assert_allclose(ours.bits, bits.numpy(), rtol=1e-5)


def test_a_laplace_tail_keeps_a_float64_prior_finite_far_out() -> None:
    prior = priors.NoisyNormal(np.float64(0), np.float64(1))
    config = UniversalBatchedConfig(prior=prior, coding_rank=1, laplace_tail_mass=1e-3)
    bits = _perturb(LiveModel(config), np.array([[1e3], [1e4]], np.float32)).bits
    np.testing.assert_allclose(bits, np.array([1e3, 1e4]) / np.log(2), rtol=0.02)


def test_the_gradient_is_that_of_the_bits() -> None:
    """For a normal prior much wider than the noise, d bits / dx = (x - loc) / scale^2 / ln 2."""
    config = UniversalBatchedConfig(prior=priors.NoisyNormal(1.0, 50.0), coding_rank=1, expected_grads=True)
    x = np.array([[-60.0, 1.0, 90.0]], np.float32)
    result = _perturb(LiveModel(config), x, training=True, gradient=True)
    assert result.gradient is not None
    np.testing.assert_allclose(result.gradient, (x - 1) / 50**2 / np.log(2), rtol=1e-2, atol=1e-5)


def test_the_gradient_has_the_dtype_of_the_bottleneck_whatever_the_dtype_of_the_prior() -> None:
    x = np.array([[-2.0, 0.25, 3.0]], np.float32)
    gradients = []
    for dtype in (np.float32, np.float64):
        prior = priors.NoisyNormal(dtype(0), dtype(2))
        config = UniversalBatchedConfig(prior=prior, coding_rank=1, expected_grads=True)
        result = _perturb(LiveModel(config), x, training=True, gradient=True)
        gradients.append(result.by_name["gradient"])
    assert gradients[1].dtype == np.float32
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-4)


@pytest.mark.parametrize("expected_grads", [True, False])
def test_expected_gradients_have_no_noise(expected_grads: bool) -> None:
    config = UniversalBatchedConfig(
        prior=priors.NoisyNormal(0.0, 0.5), coding_rank=1, expected_grads=expected_grads
    )
    x = np.full((1, 50), 0.7, np.float32)
    gradient = _perturb(LiveModel(config), x, training=True, gradient=True).gradient
    assert gradient is not None
    assert (np.ptp(gradient) < 1e-4) == expected_grads


def test_without_training_the_gradient_is_zero() -> None:
    live = LiveModel(UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, 2.0), coding_rank=1))
    gradient = _perturb(live, np.ones((2, 3), np.float32), gradient=True).gradient
    assert gradient is not None
    np.testing.assert_array_equal(gradient, np.zeros((2, 3), np.float32))


def test_training_noise_is_uniform_on_a_unit_interval() -> None:
    live = LiveModel(UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, 2.0), coding_rank=1))
    noise = np.sort(_perturb(live, np.zeros((40, 500), np.float32), training=True).perturbed.reshape(-1))
    # Kolmogorov-Smirnov: above 1.95 / sqrt(n) once in a thousand runs.
    assert np.abs(noise + 0.5 - np.linspace(0, 1, noise.size)).max() < 2.5 / np.sqrt(noise.size)


def test_an_axis_of_length_one_is_repeated_as_tfc_does() -> None:
    config = UniversalBatchedConfig(prior=priors.NoisyNormal([0.0, 1.0, 2.0], 2.0), coding_rank=2)
    x = RNG.normal(0, 3, (2, 4, 1)).astype(np.float32)
    ours = _perturb(LiveModel(config), x)
    perturbed, bits = _tfc(config)(x, training=False)
    np.testing.assert_array_equal(ours.perturbed, perturbed.numpy())
    np.testing.assert_allclose(ours.bits, bits.numpy(), rtol=1e-5)


def _tfc(config: UniversalBatchedConfig) -> Any:
    import tensorflow_compression as tfc  # noqa: PLC0415

    dtype = tf.as_dtype(config.bottleneck_dtype)
    return tfc.UniversalBatchedEntropyModel(
        tfc_prior(config.prior),
        config.coding_rank,
        bottleneck_dtype=dtype,
        num_noise_levels=config.num_noise_levels,
    )
