"""Starting values for fits, computed from the samples.

Invariant: the prior has density where the samples are, in every element of prior_shape, so that a fit need
not search for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd import priors
from entropyd._arrays import check_finite
from entropyd.contract.arrays import array_of
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError
from entropyd.contract.prior import Prior

_COMPONENTS = 3
# An element with at most this many values gets a component for each.
_MOST_VALUES = 16
# Uniform noise of width 1 makes a narrower density look like a point.
_LEAST_SCALE = 0.02
# Of a component that stands for a point: Cauchy's tails leave 1.3 times this to other integers.
_POINT_SCALE = 0.005
# From here on, softplus(x) is x to float32's precision.
_LINEAR = 20.0


def starting_prior(samples: Any, family: str | None = None, prior_rank: int = 1) -> Prior:
    """A prior that is centred on samples and about as wide as they are.

    Args:
      samples: Finite floats, an array or nested lists; any leading axes, then prior_shape.
      family: One of `FITTED_FAMILIES`. By default NoisyMixtureSameFamily where no element has more than 16
        values, else NoisyRoundedDeepFactorized where all samples are integers, else NoisyDeepFactorized.
      prior_rank: Number of axes of prior_shape.

    Raises:
      InvalidConfigError: If the family is not one of them.
      InvalidTensorError: If the samples are no floats, are empty or not finite, or have too few axes.
    """
    if family is not None and family not in FITTED_FAMILIES:
        found = f"is {family!s:.80}; expected one of: {', '.join(FITTED_FAMILIES)}"
        raise InvalidConfigError.at("prior.family", found)
    array = array_of("samples", samples, *BOTTLENECK_DTYPES, numbers="float64")
    if array.dtype.name != "float64":
        array = array.astype(np.float32)
    if array.ndim < prior_rank or not array.size:
        found = f"has shape {array.shape}; expected numbers with at least {prior_rank} axes"
        raise InvalidTensorError.at("samples", found)
    check_finite(array, "samples")
    rows = array.reshape(-1, *array.shape[array.ndim - prior_rank :])
    return FITTED_FAMILIES[family or _suited(rows)](rows)


def _suited(rows: npt.NDArray[Any]) -> str:
    if _values(rows) is not None:
        return "NoisyMixtureSameFamily"
    return "NoisyRoundedDeepFactorized" if (rows == np.rint(rows)).all() else "NoisyDeepFactorized"


def _deep_factorized(family: Callable[..., Prior]) -> Callable[[npt.NDArray[Any]], Prior]:
    """TFC's initial network, shifted and scaled in its first layer."""

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
    # The other layers add biases within 1/2.
    moved = bias / 4 - slope * centre[:, None, None]
    return {"matrix_0": steep.astype(dtype), "bias_0": moved.astype(dtype)}


def _location_scale(family: Callable[..., Prior], ratio: float) -> Callable[[npt.NDArray[Any]], Prior]:
    """For a family whose standard deviation is `ratio` times its scale."""

    def start(rows: npt.NDArray[Any]) -> Prior:
        centre = np.median(rows, axis=0).astype(rows.dtype)
        return family(centre, (_width(rows) / ratio).astype(rows.dtype))

    return start


def _mixture(family: Callable[..., Prior], ratio: float) -> Callable[[npt.NDArray[Any]], Prior]:
    return lambda rows: family(*_spread(rows, ratio))


def _spread(rows: npt.NDArray[Any], ratio: float) -> tuple[npt.NDArray[Any], ...]:
    """Locations, scales and weights of components over the quantiles of each element."""
    levels = (np.arange(_COMPONENTS) + 0.5) / _COMPONENTS
    loc = np.moveaxis(np.quantile(rows, levels, axis=0), 0, -1)
    scale = np.repeat(_width(rows)[..., None], _COMPONENTS, axis=-1) / ratio
    weight = np.full(loc.shape, 1 / _COMPONENTS, rows.dtype)
    return loc.astype(rows.dtype), scale.astype(rows.dtype), weight


def _points(rows: npt.NDArray[Any]) -> Prior:
    """A narrow component at each value of an element, or components over its quantiles if these are many.

    Cauchy's tails reach into the gaps between values, where TFC's search for the tails of the mixture needs a
    slope: without one it does not move.
    """
    values = _values(rows)
    if values is None:
        loc, scale, weight = _spread(rows, 1.0)
    else:
        most = max(len(found) for found in values)
        # An element with fewer values also has components of weight 0.
        loc = np.stack([np.pad(found, (0, most - len(found)), mode="edge") for found in values])
        scale = np.full_like(loc, _POINT_SCALE)
        columns = rows.reshape(len(rows), -1).T
        counts = [
            np.bincount(np.searchsorted(found, column), minlength=most)
            for found, column in zip(values, columns, strict=True)
        ]
        weight = (np.stack(counts) / len(rows)).astype(rows.dtype)
        loc, scale, weight = (part.reshape(*rows.shape[1:], most) for part in (loc, scale, weight))
    return priors.NoisyMixtureSameFamily(weight, priors.tfp("Cauchy", loc=loc, scale=scale))


def _values(rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]] | None:
    """The values of each element, rising; None if one has more than `_MOST_VALUES`."""
    values = []
    for column in rows.reshape(len(rows), -1).T:
        # The first rows suffice in most cases, which saves sorting all of them.
        for part in (column[: 4 * _MOST_VALUES], column):
            found = np.unique(part)
            if len(found) > _MOST_VALUES:
                return None
        values.append(found)
    return values


def _width(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Standard deviation of each element, in float64, at least _LEAST_SCALE."""
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
    "NoisyMixtureSameFamily": _points,
}
