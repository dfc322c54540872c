"""The tails of a prior, found once and within bounds.

Owns the calls of TFC's tail estimation and the watch over them. It must not know what the tails are for.
Invariant: either both tails are finite and fixed to the prior, so that TFC does not search again, or the
caller gets an error that says what about the prior or tail_mass is the cause.

TFC (tensorflow_compression/python/distributions/helpers.py) asks a distribution for its quantile. Where it
has none (mixtures, NoisyDeepFactorized), `estimate_tails` searches from 0 by gradient descent, about 0.1 a
step, until every element has passed its target. It has no limit: where the cumulative is flat in floating
point, far from the mass or in a gap between narrow components, it stands still for ever.
Only worker processes import this module: it imports TensorFlow.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_compression.python.distributions import helpers

from entropyd.contract.errors import InvalidConfigError, Violation
from entropyd_server.modeling.table_shape import element_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def locate_tails(
    distribution: Any, tail_mass: float
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """Finds the lower and the upper tail and fixes them to the distribution.

    Args:
      distribution: Of scalar events; changed, so that TFC finds the tails without a search.
      tail_mass: Probability outside of the tails together.

    Returns:
      Lower and upper tail, each of the distribution's dtype and batch shape.

    Raises:
      InvalidConfigError: If a tail is not finite, or the search for it would never end.
    """
    with _watched_searches():
        lower = helpers.lower_tail(distribution, tail_mass)
        upper = helpers.upper_tail(distribution, tail_mass)
    tails = lower.numpy(), upper.numpy()
    for tail in tails:
        _check_finite(tail, tail_mass)
    # `helpers.lower_tail` and `upper_tail` ask for these methods first.
    distribution._lower_tail = lambda _tail_mass: lower  # noqa: SLF001
    distribution._upper_tail = lambda _tail_mass: upper  # noqa: SLF001
    return tails


def _check_finite(tail: npt.NDArray[np.floating[Any]], tail_mass: float) -> None:
    finite = np.isfinite(tail)
    if finite.all():
        return
    rounding = np.finfo(tail.dtype).epsneg
    if tail_mass < rounding:
        found = f"is {tail_mass:g}, which a {tail.dtype.name} prior cannot tell from 0"
        raise InvalidConfigError.of([Violation("tail_mass", f"{found}; expected at least {rounding:.3g}")])
    flat_index = int(np.argmin(finite))
    element = element_name(tail.shape, flat_index)
    found = f"has a tail at {tail.flat[flat_index]}{element} at tail_mass {tail_mass:g}"
    raise InvalidConfigError.of([Violation("prior", f"{found}; expected a finite number")])


@contextmanager
def _watched_searches() -> Iterator[None]:
    """Puts every search of TFC 2.14.1, which cannot be bounded otherwise, under watch.

    A worker serves one request at a time, so nothing else sees the replaced function.
    """
    search = helpers.estimate_tails

    def watched(cumulative: Callable[[Any], Any], target: Any, shape: Any, dtype: Any) -> Any:
        return search(_Watch(cumulative), target, shape, dtype)

    helpers.estimate_tails = watched
    try:
        yield
    finally:
        helpers.estimate_tails = search


class _Watch:
    """Stands between a search and the cumulative that it evaluates, and ends a search that has no end.

    The search counts an element as done 100 steps after its gradient changed sign against the running mean
    of gradients. A step is that mean over the root of the running mean of squares, and both means halve what
    was. So an element that did not move, whose gradient is 0 now or has an infinite square, will never move
    again; and if its gradient has not changed sign yet, it never will, and the search does not end.
    A gradient that is no number ends it at once, wherever the other elements are, and so do we.
    """

    def __init__(self, cumulative: Callable[[Any], Any]) -> None:
        self._cumulative = cumulative
        self._tails: npt.NDArray[Any] | None = None
        self._mean: npt.NDArray[Any] = np.zeros(())
        self._passed: npt.NDArray[Any] = np.zeros((), np.bool_)

    def __call__(self, tails: Any) -> Any:
        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def observed(tails: Any) -> tuple[Any, Callable[[Any], Any]]:
            def gradient(upstream: Any) -> Any:
                self._check_progress(tails.numpy(), upstream.numpy())
                return upstream

            return tf.identity(tails), gradient

        return self._cumulative(observed(tails))

    def _check_progress(self, tails: npt.NDArray[Any], gradient: npt.NDArray[Any]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self._passed = self._passed | (self._mean * gradient < 0)
            self._mean = (self._mean + gradient) / 2
            powerless = (gradient == 0) | np.isinf(np.square(gradient))
        unmoved = np.zeros(tails.shape, np.bool_) if self._tails is None else tails == self._tails
        self._tails = tails
        stuck = unmoved & powerless & ~self._passed | np.isnan(gradient)
        if stuck.any():
            flat_index = int(stuck.argmax())
            where = f"{tails.flat[flat_index]:g}{element_name(tails.shape, flat_index)}"
            found = f"has a cumulative without a usable {tails.dtype.name} gradient at {where}"
            expected = (
                "expected density all the way from 0, where the search for its tails begins, to the tails: "
                "components near 0, and no gaps or steps"
            )
            raise InvalidConfigError.of([Violation("prior", f"{found}; {expected}")])
