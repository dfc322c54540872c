"""Configurations at random: ordinary ones, and ones whose tails are hard to find.

Every family that may be the prior of a model occurs in both, in turn. A number gives the same configuration
on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import entropyd
from entropyd import priors
from entropyd.contract.families import FAMILIES

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior

FAMILY_NAMES = [name for name, family in FAMILIES.items() if family.density]

_SHAPES = {"skewness": (-2, 2), "tailweight": (0.5, 3), "df": (2, 10), "power": (0.7, 4)}


@dataclass(frozen=True)
class Ranges:
    """What parameters are drawn from.

    Attributes:
      loc: Largest distance of a location from 0.
      log_scale: Least and largest base-10 logarithm of a scale.
      log_weight: Least base-10 logarithm of a mixture's weight, before weights are made to sum to 1.
      precisions: Values of range_coder_precision.
    """

    loc: tuple[float, ...]
    log_scale: tuple[float, float]
    log_weight: float
    precisions: tuple[int, ...]


_ORDINARY = Ranges((1, 5, 20), (-0.7, 1.0), -1.0, (12,))
_HARD = Ranges((0, 1, 30, 1e3, 1e5), (-6.0, 4.0), -30.0, (12, 16))


def ordinary_config(number: int) -> entropyd.UniversalBatchedConfig:
    """A configuration as people have them."""
    return _config(number, _ORDINARY)


def ordinary_prior(family: str, rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Prior:
    """A prior of a family, as people have them."""
    return _prior(family, rng, dtype, shape, _ORDINARY)


def hard_config(number: int) -> entropyd.UniversalBatchedConfig:
    """A configuration with gaps up to 10^5, scales from 10^-6 to 10^4 and weights down to 10^-30."""
    return _config(number, _HARD)


def _config(number: int, ranges: Ranges) -> entropyd.UniversalBatchedConfig:
    rng = np.random.default_rng([number, len(ranges.precisions)])
    dtype = str(rng.choice(["float32", "float64"]))
    shape = ((), (2,), (3,))[rng.integers(3)]
    prior = _prior(FAMILY_NAMES[number % len(FAMILY_NAMES)], rng, dtype, shape, ranges)
    return entropyd.UniversalBatchedConfig(
        prior=prior,
        coding_rank=2,
        num_noise_levels=int(rng.choice([1, 3, 15])),
        tail_mass=float(rng.choice([2.0**-8, 2.0**-8, 1e-3, 1e-5])),
        range_coder_precision=int(rng.choice(ranges.precisions)),
        bottleneck_dtype=dtype,
    )


def _prior(
    family: str, rng: np.random.Generator, dtype: str, shape: tuple[int, ...], ranges: Ranges
) -> Prior:
    known = FAMILIES[family]
    if known.network:
        return _network(family, rng, dtype, shape, ranges)
    mixture = "weight" in known.arrays
    within = (*shape, int(rng.integers(2, 5))) if mixture else shape

    def array(values: Any) -> Any:
        return np.asarray(values, dtype)

    def scales() -> Any:
        return array(10 ** rng.uniform(*ranges.log_scale, within))

    loc = array(rng.uniform(-1, 1, within) * rng.choice(ranges.loc, within))
    given: dict[str, Any] = {}
    if mixture:
        weight = 10 ** rng.uniform(ranges.log_weight, 0, within)
        weight[..., 0] = 1
        given["weight"] = array(weight / weight.sum(axis=-1, keepdims=True))
    if known.nested:
        base = _base(family, rng, loc, scales())
        return entropyd.Prior(family, {known.nested: base, **given, **_alpha(family, rng)})
    given |= {"loc": loc, "scale": scales()}
    if "low" in known.arrays:
        given |= {"low": array(loc - rng.uniform(1, 10)), "high": array(loc + rng.uniform(1, 10))}
    for name, (low, high) in _SHAPES.items():
        if name in known.arrays:
            given[name] = array(rng.uniform(low, high, within))
    return entropyd.Prior(family, {**given, **_alpha(family, rng)})


def _base(family: str, rng: np.random.Generator, loc: Any, scale: Any) -> Prior:
    names = ["tfp.Normal", "tfp.Logistic", "tfp.Laplace"]
    if family != "UniformNoiseAdapter":
        return entropyd.Prior(str(rng.choice(names)), {"loc": loc, "scale": scale})
    base = entropyd.Prior(str(rng.choice([*names, "tfp.Gumbel", "tfp.Cauchy"])), {"loc": loc, "scale": scale})
    kind = rng.choice(["", "round", "soft"])
    if kind == "round":
        return priors.RoundAdapter(base)
    return priors.SoftRoundAdapter(base, alpha=float(rng.uniform(1, 8))) if kind else base


def _alpha(family: str, rng: np.random.Generator) -> dict[str, Any]:
    return {"alpha": float(rng.uniform(1, 8))} if "alpha" in FAMILIES[family].arrays else {}


def _network(
    family: str, rng: np.random.Generator, dtype: str, shape: tuple[int, ...], ranges: Ranges
) -> Prior:
    filters = ((), (2,), (3, 3))[rng.integers(3)]
    # Its width is about the scale that it begins with.
    scale = float(10 ** rng.uniform(max(ranges.log_scale[0], -1), min(ranges.log_scale[1], 3)))
    made = priors.NoisyDeepFactorized(shape, filters, init_scale=scale, dtype=np.dtype(dtype))
    spread = 0.2 if ranges is _ORDINARY else float(rng.choice([0.2, 3.0]))
    trained = {
        name: (value + rng.normal(0, spread, value.shape)).astype(dtype)
        for name, value in made.variables.items()
    }
    return entropyd.Prior(family, {"batch_shape": shape, **trained, **_alpha(family, rng)})
