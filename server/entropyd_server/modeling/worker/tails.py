"""Finds tails and quantization offsets of a prior by searches that end.

TFC (tensorflow_compression/python/distributions/helpers.py) asks a distribution for its quantile. Where that
is missing (mixtures, NoisyDeepFactorized), it calls `estimate_tails`, which may never end; a search of
`tail_search` replaces it. Tails are then fixed to the prior, so that TFC does not search again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow_compression.python.distributions import helpers

from entropyd.contract.errors import InvalidConfigError
from entropyd_server.modeling.worker.table_shape import element_name
from entropyd_server.modeling.worker.tail_search import EndlessSearchError, bisect, descend

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]


def locate_tails(
    distribution: Any, tail_mass: float, in_order: Callable[[Array, Array], bool]
) -> tuple[Array, Array]:
    """Finds the lower and the upper tail and fixes them to the distribution.

    Args:
      distribution: Of scalar events; changed, so that TFC finds the tails without a search.
      tail_mass: Probability outside of the tails together.
      in_order: Says of a lower and an upper tail whether rows can be built from them.

    Returns:
      Lower and upper tail, each of the distribution's dtype and batch shape: TFC's where it finds some that
      are in order, else the quantiles.

    Raises:
      InvalidConfigError: If a tail is not finite or cannot be found.
    """
    try:
        lower, upper = _tails(distribution, tail_mass, descend)
        exact = not in_order(lower.numpy(), upper.numpy())
    except EndlessSearchError:
        exact = True
    if exact:
        lower, upper = _tails(distribution, tail_mass, bisect)
    for tail in (lower, upper):
        _check_finite(tail.numpy(), tail_mass)
    # `helpers.lower_tail` and `upper_tail` ask for these methods first.
    distribution._lower_tail = lambda _tail_mass: lower  # noqa: SLF001
    distribution._upper_tail = lambda _tail_mass: upper  # noqa: SLF001
    return lower.numpy(), upper.numpy()


def locate_offset(distribution: Any) -> Array:
    """Finds the quantization offset of TFC's heuristic: by its search or, if that would not end, by another.

    Returns:
      Array of the distribution's dtype that broadcasts to its batch shape, each in [-0.5, 0.5].

    Raises:
      InvalidConfigError: If it is not finite or cannot be found.
    """
    try:
        offset = _searched(descend, lambda: helpers.quantization_offset(distribution)).numpy()
    except EndlessSearchError:
        offset = _searched(bisect, lambda: helpers.quantization_offset(distribution)).numpy()
    if not np.isfinite(offset).all():
        raise InvalidConfigError.at("prior", "has no finite quantization offset; give one, or none")
    return offset  # type: ignore[no-any-return]


def _check_finite(tail: Array, tail_mass: float) -> None:
    finite = np.isfinite(tail)
    if finite.all():
        return
    rounding = np.finfo(tail.dtype).epsneg
    if tail_mass < rounding:
        found = f"is {tail_mass:g}, which a {tail.dtype.name} prior cannot tell from 0"
        raise InvalidConfigError.at("tail_mass", f"{found}; expected at least {rounding:.3g}")
    flat_index = int(np.argmin(finite))
    element = element_name(tail.shape, flat_index)
    found = f"has a tail at {tail.flat[flat_index]}{element} at tail_mass {tail_mass:g}"
    raise InvalidConfigError.at("prior", f"{found}; expected a finite number")


def _tails(distribution: Any, tail_mass: float, search: Callable[..., Any]) -> tuple[Any, Any]:
    """TFC 2.14.1's tails with another search."""
    lower = _searched(search, lambda: helpers.lower_tail(distribution, tail_mass))
    return lower, _searched(search, lambda: helpers.upper_tail(distribution, tail_mass))


def _searched(search: Callable[..., Any], ask: Callable[[], Any]) -> Any:
    """What `ask` gives while another search stands in the place of TFC 2.14.1's.

    A worker serves one request at a time, so nothing else sees the replaced function.
    """
    replaced = helpers.estimate_tails
    helpers.estimate_tails = search
    try:
        return ask()
    finally:
        helpers.estimate_tails = replaced
