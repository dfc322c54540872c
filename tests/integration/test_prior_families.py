"""Every family that may be the prior of a model, against TFC: tables, strings and bit costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import entropyd
from entropyd import priors
from entropyd.contract.families import FAMILIES, stands_on
from tests.support.tfc_models import tfc_model, tfc_prior, tfc_strings

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior

PLAIN: dict[str, dict[str, Any]] = {
    "tfp.JohnsonSU": {"skewness": 0.3, "tailweight": 1.5},
    "tfp.TruncatedNormal": {"low": -6.0, "high": 7.0},
    "tfp.StudentT": {"df": 4.0},
    "tfp.GeneralizedNormal": {"power": 1.5},
    "NoisySoftRoundedNormal": {"alpha": 4.0},
}
WITH_DENSITY = [name for name, family in FAMILIES.items() if family.density]


def prior_of(family: str, dtype: str = "float32", rng: np.random.Generator | None = None) -> Prior:
    """A prior of a family, with prior_shape (2,).

    Narrow, as TFC searches the tails of mixtures and networks from 0 on, 0.1 a step.
    """
    rng = np.random.default_rng(3) if rng is None else rng
    known = FAMILIES[family]
    if known.network:
        network = priors.NoisyDeepFactorized((2,), (2,), init_scale=1, dtype=np.dtype(dtype))
        trained = {
            name: value + rng.normal(0, 0.2, value.shape).astype(dtype)
            for name, value in network.variables.items()
        }
        extra = {"alpha": 4.0} if "alpha" in known.arrays else {}
        return entropyd.Prior(family, {"batch_shape": (2,), **trained, **extra})
    shape = (2, 3) if "Mixture" in family else (2,)
    loc = rng.uniform(-1, 1, shape).astype(dtype)
    scale = rng.uniform(0.5, 1, shape).astype(dtype)
    weight = {"weight": rng.dirichlet(np.ones(3), 2).astype(dtype)} if "Mixture" in family else {}
    if known.nested:
        base = priors.tfp("Laplace", loc=loc, scale=scale)
        return entropyd.Prior(family, {known.nested: base, **weight})
    return entropyd.Prior(family, {"loc": loc, "scale": scale, **weight, **PLAIN.get(family, {})})


def assert_equal_to_tfc(client: entropyd.Client, prior: Prior) -> None:
    config = entropyd.UniversalBatchedConfig(
        prior=prior, coding_rank=2, num_noise_levels=3, bottleneck_dtype=prior.dtype
    )
    model, reference = client.create_model(config), tfc_model(config)
    np.testing.assert_array_equal(model.cdf, reference.cdf.numpy())
    np.testing.assert_array_equal(model.cdf_offset, reference.cdf_offset.numpy())
    x = np.random.default_rng(1).normal(0, 2, (3, 5, 2)).astype(prior.dtype)
    assert model.compress(x).strings.tolist() == tfc_strings(reference, x).tolist()
    perturbed, bits = model(x, training=False)
    expected, expected_bits = reference(x, training=False)
    np.testing.assert_array_equal(perturbed, expected.numpy())
    np.testing.assert_allclose(bits, expected_bits.numpy(), rtol=1e-4)


@pytest.mark.parametrize("family", WITH_DENSITY)
def test_a_prior_of_any_family_is_that_of_tfc(client: entropyd.Client, family: str) -> None:
    assert_equal_to_tfc(client, prior_of(family))


@pytest.mark.parametrize("family", ["NoisySoftRoundedNormal", "tfp.JohnsonSU", "NoisyRoundedDeepFactorized"])
def test_it_is_in_float64_too(client: entropyd.Client, family: str) -> None:
    assert_equal_to_tfc(client, prior_of(family, "float64"))


@pytest.mark.parametrize("family", [name for name in FAMILIES if stands_on("UniformNoiseAdapter", name)])
def test_noise_stands_on_every_base(client: entropyd.Client, family: str) -> None:
    if FAMILIES[family].nested == "base":
        base = entropyd.Prior(
            family,
            {"base": priors.tfp("Normal", loc=[0.0, 1.0], scale=2.0)}
            | ({"alpha": 4.0} if "alpha" in FAMILIES[family].arrays else {}),
        )
    else:
        base = prior_of(family)
    assert_equal_to_tfc(client, priors.UniformNoiseAdapter(base))


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # without shrinking: every example builds tables twice
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_adapters_may_stand_on_adapters(client: entropyd.Client, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    bases = [name for name, known in FAMILIES.items() if stands_on("RoundAdapter", name) and not known.nested]
    prior = prior_of(
        data.draw(st.sampled_from(bases)), data.draw(st.sampled_from(["float32", "float64"])), rng
    )
    for kind in data.draw(st.lists(st.sampled_from(["round", "soft"]), max_size=2)):
        soft = kind == "soft"
        prior = priors.SoftRoundAdapter(prior, alpha=3) if soft else priors.RoundAdapter(prior)
    assert_equal_to_tfc(client, priors.UniformNoiseAdapter(prior))


@pytest.mark.parametrize("family", WITH_DENSITY)
def test_variables_are_in_the_order_of_tfc(family: str) -> None:
    prior = prior_of(family)
    ours = list(prior.variables.values())
    theirs = [variable.numpy() for variable in tfc_prior(prior).variables]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_prior_without_density_is_refused_by_name() -> None:
    with pytest.raises(entropyd.InvalidConfigError, match="RoundAdapter, which has no density"):
        entropyd.UniversalBatchedConfig(prior=priors.RoundAdapter(prior_of("tfp.Normal")), coding_rank=1)
