"""The families of priors: their parameters, and which family may stand inside which.

Invariant: TensorFlow can build every prior that this table allows, and has a kernel for every call that a
model makes of it.

Names and meanings are those of tensorflow_compression/python/distributions (uniform_noise.py,
deep_factorized.py, round_adapters.py) and, with the prefix `tfp.`, of tensorflow_probability.distributions.
The list is closed: a configuration is data, and no name in it is looked up anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

# What values a parameter may have: any finite number, one above 0, one number above 0 for the whole prior, or
# weights, which are not negative and sum to 1 along the last axis, the one that counts mixture components.
Domain: TypeAlias = Literal["real", "positive", "one positive", "weight"]

# Which adapters can stand on a distribution. TFC's adapters call its cumulative, RoundAdapter and
# SoftRoundAdapter by private methods that TFP 0.22 does not give every class: `any` has all of them, `noise`
# is a mixture, noise on which is a mixture with noise, `none` has too few.
Cumulative: TypeAlias = Literal["none", "noise", "any"]

NOISE_ADAPTER = "UniformNoiseAdapter"


@dataclass(frozen=True)
class Family:
    """What a family takes and where it may stand.

    Attributes:
      arrays: Parameters that are numbers or arrays, with their domains; they broadcast against one another.
      nested: Name of the parameter that is another prior; None without one.
      network: Whether it has the variables of a DeepFactorized, and `batch_shape`.
      cumulative: Which adapters can stand on it.
      density: Whether it may be the prior of a model.
      rising: Two parameters of which the second must be above the first.
    """

    arrays: Mapping[str, Domain] = field(default_factory=dict)
    nested: str | None = None
    network: bool = False
    cumulative: Cumulative = "none"
    density: bool = True
    rising: tuple[str, str] | None = None


_LOC_SCALE: Mapping[str, Domain] = {"loc": "real", "scale": "positive"}
_MIXTURE: Mapping[str, Domain] = {**_LOC_SCALE, "weight": "weight"}
_ALPHA: Mapping[str, Domain] = {"alpha": "one positive"}

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "NoisyNormal": Family(_LOC_SCALE),
        "NoisyLogistic": Family(_LOC_SCALE),
        "NoisyLaplace": Family(_LOC_SCALE),
        "NoisyNormalMixture": Family(_MIXTURE),
        "NoisyLogisticMixture": Family(_MIXTURE),
        "NoisyMixtureSameFamily": Family({"weight": "weight"}, nested="components"),
        "NoisyDeepFactorized": Family(network=True),
        "DeepFactorized": Family(network=True, cumulative="any"),
        "NoisyRoundedNormal": Family(_LOC_SCALE),
        "NoisySoftRoundedNormal": Family({**_LOC_SCALE, **_ALPHA}),
        "NoisyRoundedDeepFactorized": Family(network=True),
        "NoisySoftRoundedDeepFactorized": Family(_ALPHA, network=True),
        NOISE_ADAPTER: Family(nested="base"),
        "RoundAdapter": Family(nested="base", cumulative="any", density=False),
        "SoftRoundAdapter": Family(_ALPHA, nested="base", cumulative="any", density=False),
        "tfp.Normal": Family(_LOC_SCALE, cumulative="any"),
        "tfp.Logistic": Family(_LOC_SCALE, cumulative="any"),
        "tfp.Laplace": Family(_LOC_SCALE, cumulative="any"),
        "tfp.Cauchy": Family(_LOC_SCALE, cumulative="any"),
        "tfp.Gumbel": Family(_LOC_SCALE, cumulative="any"),
        "tfp.Moyal": Family(_LOC_SCALE, cumulative="any"),
        "tfp.JohnsonSU": Family(
            {"skewness": "real", "tailweight": "positive", **_LOC_SCALE}, cumulative="any"
        ),
        "tfp.TruncatedNormal": Family(
            {**_LOC_SCALE, "low": "real", "high": "real"}, cumulative="any", rising=("low", "high")
        ),
        "tfp.StudentT": Family({"df": "positive", **_LOC_SCALE}),
        "tfp.GeneralizedNormal": Family({**_LOC_SCALE, "power": "positive"}),
        "tfp.MixtureSameFamily": Family({"weight": "weight"}, nested="components", cumulative="noise"),
    }
)


def stands_on(family: str, base: str) -> bool:
    """Whether a family that takes another prior can take one of `base`."""
    if family == NOISE_ADAPTER:
        return FAMILIES[base].cumulative != "none"
    return FAMILIES[base].cumulative == "any"
