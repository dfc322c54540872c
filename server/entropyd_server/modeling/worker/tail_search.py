"""Solves a monotone function for a value, for all elements of a batch at once.

`descend` returns what TFC's `estimate_tails` returns, to the bit, or says that it would not end; `bisect`
finds the solution wherever it is. Both take a bounded number of evaluations, the same on every run.

`estimate_tails` (tensorflow_compression/python/distributions/helpers.py) descends from 0 by Adam, at most 0.1
a step, until every element has passed its target. Where the cumulative is flat in floating point, far from
the mass or in a gap between narrow components, it never moves.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from entropyd.contract.errors import InvalidConfigError
from entropyd_server.modeling.worker.table_shape import element_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Array = npt.NDArray[Any]

# How far from 0 TFC's search is followed, in steps of at most 0.1 that take 0.03 to 0.3 ms each.
REACH = 1000
# Of 200 searches that ended, each took at most 230 steps more than these for its distance.
_STEPS_PER_UNIT = 10
# Steps of an element after the one that passed its target, and the loss at which TFC's search ends at once.
_REFINING_STEPS = 100
_LEAST_LOSS = 1e-8
# Tables end at 2^29, see `table_shape`.
_FARTHEST_BITS = 30


class EndlessSearchError(Exception):
    """TFC's search would not end, or not within REACH."""


def descend(function: Callable[[Any], Any], target: Any, shape: Any, dtype: Any) -> Any:
    """Solves `function(x) == target` as TFC's `estimate_tails` does.

    Args:
      function: Monotone and elementwise, of a tensor of `shape` and `dtype`.
      target: The value to reach, a scalar.
      shape: Shape of the solution.
      dtype: Dtype of the solution.

    Returns:
      The tensor of `shape` and `dtype` that `estimate_tails` returns.

    Raises:
      EndlessSearchError: If it would not return, or take much longer than a walk to the solution.
    """
    shape, dtype, target = _normalized(shape, dtype, target)
    with _unchanged_arithmetic():
        distance = float(np.nanmax(np.abs(_bisected(function, target, shape, dtype)), initial=0))
        if distance > REACH:
            raise EndlessSearchError
        return _descended(function, target, shape, dtype, 1000 + round(1.25 * _STEPS_PER_UNIT * distance))


def bisect(function: Callable[[Any], Any], target: Any, shape: Any, dtype: Any) -> Any:
    """Solves `function(x) == target` to within a few ulps; see `descend`.

    Raises:
      InvalidConfigError: Names the prior, if there is no solution within 2^30 of 0.
    """
    shape, dtype, target = _normalized(shape, dtype, target)
    with _unchanged_arithmetic():
        solution = _bisected(function, target, shape, dtype)
    found = np.isfinite(solution)
    if not found.all():
        element = element_name(shape, int(np.argmin(found)))
        problem = f"has no tail{element} within 2^{_FARTHEST_BITS} of 0"
        expected = f"expected a cumulative that rises from 0 to 1, computed in {dtype.name}"
        raise InvalidConfigError.at("prior", f"{problem}; {expected}")
    return tf.constant(solution, dtype)


def _normalized(shape: Any, dtype: Any, target: Any) -> tuple[tuple[int, ...], Any, Any]:
    dtype = tf.as_dtype(dtype)
    return tuple(int(length) for length in shape), dtype, tf.convert_to_tensor(target, dtype)


@contextmanager
def _unchanged_arithmetic() -> Iterator[None]:
    """Keeps TensorFlow from rewriting a graph's arithmetic, which changes last bits."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({**options, "disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **options})


def _bisected(function: Callable[[Any], Any], target: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Brackets each solution between -2^n and 2^n, then halves the brackets until they are a few ulps wide.

    Returns:
      The side of each bracket on which the function is at least `target`; NaN where there is no bracket, or
      the function is NaN.
    """
    evaluate = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)
    undefined = np.zeros(shape, np.bool_)

    def reached(x: Array) -> Array:
        nonlocal undefined
        values = evaluate(tf.constant(x, dtype)).numpy()
        undefined = undefined | np.isnan(values)
        return np.asarray(values >= target.numpy())

    bound = np.ones(shape, dtype.as_numpy_dtype)
    falling = np.zeros(shape, np.bool_)
    bracketed = np.zeros(shape, np.bool_)
    for _ in range(_FARTHEST_BITS + 1):
        falling, rising = reached(-bound), reached(bound)
        bracketed = falling != rising
        if (bracketed | undefined).all():
            break
        bound = np.where(bracketed | undefined, bound, 2 * bound)
    beyond = np.where(falling, bound, -bound)  # the side on which the function is below the target
    solution = -beyond
    for _ in range(np.finfo(bound.dtype).nmant + 2):
        middle = (beyond + solution) / 2
        at_least = reached(middle)
        beyond, solution = np.where(at_least, beyond, middle), np.where(at_least, middle, solution)
    return np.where(bracketed & ~undefined, solution, np.nan)


def _descended(
    function: Callable[[Any], Any], target: Any, shape: tuple[int, ...], dtype: Any, most_steps: int
) -> Any:
    """Descends as `estimate_tails` does, operation by operation.

    An element's next step depends on its position and two means: one that changes none of them stays for
    ever.
    """

    def step(count: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        tails, mean, square, passed, best, best_loss, _, _ = state
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tails)
            loss = abs(function(tails) - target)
        better = loss < best_loss
        best, best_loss = tf.where(better, tails, best), tf.where(better, loss, best_loss)
        gradient = tape.gradient(loss, tails)
        next_mean = (mean + gradient) / 2
        next_square = (square + tf.square(gradient)) / 2
        rate = tf.math.sqrt(tf.cast(passed + 1, dtype))
        next_tails = tails - 0.1 * next_mean / (rate * tf.sqrt(next_square) + 1e-20)
        crossing = tf.math.logical_or(passed > 0, mean * gradient < 0)
        stays = (next_tails == tails) & (next_mean == mean) & (next_square == square) & ~crossing
        passed = tf.where(crossing, passed + 1, passed)
        unusable = tf.reduce_any(tf.math.is_nan(gradient))
        ended = (tf.reduce_max(loss) <= _LEAST_LOSS) | (tf.reduce_min(passed) >= _REFINING_STEPS)
        ended &= ~unusable
        hopeless = unusable | tf.reduce_any(stays)
        return count + 1, (next_tails, next_mean, next_square, passed, best, best_loss, ended, hopeless)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def loop() -> tuple[Any, Any]:
        zeros, ones = tf.zeros(shape, dtype), tf.ones(shape, dtype)
        start = (zeros, zeros, ones, tf.zeros(shape, tf.int32), zeros, ones * dtype.max)
        _, state = tf.while_loop(
            lambda count, state: (count < most_steps) & ~state[-1] & ~state[-2],
            step,
            (tf.constant(0), (*start, tf.constant(False), tf.constant(False))),  # noqa: FBT003 - tensors
        )
        return state[4], state[6]

    tails, ended = loop()
    if not ended:
        raise EndlessSearchError
    return tails
