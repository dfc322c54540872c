"""Starting values for fits, from the samples themselves.

Owns where a fit begins. It must not know how the server goes on from there. Invariant: the prior that comes
out has density where the samples are, in every element of prior_shape, so that a fit does not have to find
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd import priors
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from entropyd.contract.prior import Prior

_COMPONENTS = 3
# Narrower than this, a density is a point to uniform noise of width 1.
_LEAST_SCALE = 0.02
# softplus(x) is x to float32's precision from here on.
_LINEAR = 20.0


def starting_prior(samples: Any, family: str = "NoisyDeepFactorized", prior_rank: int = 1) -> Prior:
    """A prior of a family that is centred on samples and about as wide.

    Args:
      samples: Finite floats; any leading axes, then prior_shape.
      family: One of `FITTED_FAMILIES`.
      prior_rank: Number of axes of prior_shape.

    Raises:
      InvalidConfigError: If the family is not one of them.
      InvalidTensorError: If the samples have too few axes, none of them, or numbers that are not finite.
    """
    if family not in FITTED_FAMILIES:
        found = f"is {family!s:.80}; expected one of: {', '.join(FITTED_FAMILIES)}"
        raise InvalidConfigError.of([Violation("prior.family", found)])
    array = np.asarray(samples)
    if array.dtype.name != "float64":
        array = array.astype(np.float32)
    if array.ndim < prior_rank or not array.size or not np.isfinite(array).all():
        found = f"has shape {array.shape}; expected finite numbers with at least {prior_rank} axes"
        raise InvalidTensorError.of([Violation("samples", found)])
    shape = array.shape[array.ndim - prior_rank :]
    return FITTED_FAMILIES[family](array.reshape(-1, *shape))


def _deep_factorized(family: Callable[..., Prior]) -> Callable[[npt.NDArray[Any]], Prior]:
    """The initial network of TFC, moved and stretched in its first layer."""

    def start(rows: npt.NDArray[Any]) -> Prior:
        variables = _network(rows)
        return family(rows.shape[1:], init_scale=1.0, dtype=rows.dtype, variables=variables)

    return start


def _network(rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    shape, dtype = rows.shape[1:], rows.dtype
    centre, width = np.median(rows, axis=0).reshape(-1), _width(rows).reshape(-1)
    plain = priors.NoisyDeepFactorized(shape, init_scale=1.0, dtype=dtype)
    matrix, bias = plain.variables["matrix_0"], plain.variables["bias_0"]
    slope = np.logaddexp(0, matrix.astype(np.float64)) / width[:, None, None]
    steep = np.where(slope > _LINEAR, slope, np.log(np.expm1(np.minimum(slope, _LINEAR))))
    # The other layers lie between 0 and their biases, which are within 1/2.
    moved = bias / 4 - slope * centre[:, None, None]
    return {"matrix_0": steep.astype(dtype), "bias_0": moved.astype(dtype)}


def _location_scale(family: Callable[..., Prior], ratio: float) -> Callable[[npt.NDArray[Any]], Prior]:
    """For a family whose standard deviation is `ratio` times its scale."""

    def start(rows: npt.NDArray[Any]) -> Prior:
        centre = np.median(rows, axis=0).astype(rows.dtype)
        return family(centre, (_width(rows) / ratio).astype(rows.dtype))

    return start


def _mixture(family: Callable[..., Prior], ratio: float) -> Callable[[npt.NDArray[Any]], Prior]:
    """Components over the quantiles of each element."""

    def start(rows: npt.NDArray[Any]) -> Prior:
        levels = (np.arange(_COMPONENTS) + 0.5) / _COMPONENTS
        loc = np.moveaxis(np.quantile(rows, levels, axis=0), 0, -1)
        scale = np.repeat(_width(rows)[..., None], _COMPONENTS, axis=-1) / ratio
        weight = np.full(loc.shape, 1 / _COMPONENTS, rows.dtype)
        return family(loc.astype(rows.dtype), scale.astype(rows.dtype), weight)

    return start


def _width(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Standard deviation of each element, in float64, or what is wide enough for noise."""
    width: npt.NDArray[Any] = np.maximum(rows.std(axis=0, dtype=np.float64), _LEAST_SCALE)
    return width


FITTED_FAMILIES: dict[str, Callable[[Any], Prior]] = {
    "NoisyDeepFactorized": _deep_factorized(priors.NoisyDeepFactorized),
    "NoisyRoundedDeepFactorized": _deep_factorized(priors.NoisyRoundedDeepFactorized),
    "NoisyNormal": _location_scale(priors.NoisyNormal, 1.0),
    "NoisyLogistic": _location_scale(priors.NoisyLogistic, 1.8),
    "NoisyLaplace": _location_scale(priors.NoisyLaplace, 1.4),
    "NoisyNormalMixture": _mixture(priors.NoisyNormalMixture, 1.0),
    "NoisyLogisticMixture": _mixture(priors.NoisyLogisticMixture, 1.8),
}
