"""Fits a prior to samples, in steps.

It minimises what the class estimates in training: the bits of samples with uniform noise, with its
laplace_tail_mass and expected_grads. Invariant: the result is the best prior that was seen on the samples
held out.
"""

from __future__ import annotations

import time
from math import isfinite, log, prod
from typing import Any

import numpy as np
import tensorflow as tf

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import coding_dtype
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.parameters import Array
from entropyd_server.modeling.fit_frames import FitState
from entropyd_server.modeling.worker.adam import Adam
from entropyd_server.modeling.worker.kinds import kind_of
from entropyd_server.modeling.worker.trainable import TrainablePrior

# More elements in a step would cost time and improve little.
_STEP_ELEMENTS = 2**14
_CHECK_STEPS = 25
# Checks without improvement before the step size falls, and the share that remains of it.
_PATIENCE = 4
_DECAY = 0.3
_FIRST_RATE = 0.05
_LAST_RATE = 0.001
# More bits than this mean that no density was found.
_MOST_BITS = 64.0
# Less is no improvement, in bits per element.
_LEAST_GAIN = 2e-4


class Fit:
    """A fit in steps.

    Args:
      config: The prior's parameters are starting values.
      samples: [rows, *prior_shape], finite, in the bottleneck's coding dtype.
      max_steps: Steps after which it ends, converged or not.
      validation_share: Share of rows that is held out; with 0, convergence is judged on the rows trained on.
    """

    def __init__(self, config: ModelConfig, samples: Array, max_steps: int, validation_share: float) -> None:
        dtype = coding_dtype(config.bottleneck_dtype)
        self._prior = TrainablePrior(config.needed_prior)
        self._model = kind_of(config).entropy_model(config, self._prior.distribution, dtype, None, False)  # noqa: FBT003
        rng = np.random.default_rng(0)
        rows = rng.permutation(samples.astype(dtype, copy=False))
        held_out = int(len(rows) * validation_share)
        self._train = tf.constant(rows[held_out:])
        check = rows[:held_out] if held_out else rows
        # The same noise at every check, so that checks differ by the prior alone.
        self._check = tf.constant(check + rng.uniform(-0.5, 0.5, check.shape).astype(check.dtype))
        self._batch_rows = max(1, min(len(rows) - held_out, _STEP_ELEMENTS // prod(config.prior_shape)))
        self._rate = _FIRST_RATE
        self._optimizer = Adam(self._prior.variables, self._rate)
        self._steps = tf.function(self._some_steps, autograph=False)
        self._evaluate = tf.function(self._bits_per_element, autograph=False)
        self._max_steps = max_steps
        self._step = self._stale = 0
        self._seconds = 0.0
        self._best_bits = self._checked()
        self._best = self._prior.current()
        self._kept = [variable.numpy() for variable in self._prior.variables]

    def advance(self, seconds: float) -> FitState:
        """Takes steps for about so long; raises InvalidConfigError if the fit diverges."""
        started = time.perf_counter()
        while not self._done and time.perf_counter() - started < seconds:
            count = min(_CHECK_STEPS, self._max_steps - self._step)
            self._steps(tf.constant(count))
            self._step += count
            self._judge(self._checked())
        if self._done and self._best_bits > _MOST_BITS:
            raise self._diverged(self._best_bits)
        self._seconds += time.perf_counter() - started
        left = (self._max_steps - self._step) * self._seconds / max(self._step, 1)
        return FitState(self._step, self._best_bits, 0.0 if self._done else left, self._done, self._best)

    @property
    def _done(self) -> bool:
        return self._step >= self._max_steps or self._rate < _LAST_RATE

    def _judge(self, bits: float) -> None:
        if bits < self._best_bits - _LEAST_GAIN:
            self._stale = 0
        else:
            self._stale += 1
        if bits < self._best_bits:
            self._best_bits, self._best = bits, self._prior.current()
            self._kept = [variable.numpy() for variable in self._prior.variables]
        if self._stale >= _PATIENCE:
            self._stale = 0
            self._rate *= _DECAY
            self._optimizer.learning_rate.assign(self._rate)
            for variable, kept in zip(self._prior.variables, self._kept, strict=True):
                variable.assign(kept)

    def _checked(self) -> float:
        bits = float(self._evaluate())
        if not isfinite(bits):
            raise self._diverged(bits)
        return bits

    def _diverged(self, bits: float) -> InvalidConfigError:
        found = (
            f"gives the samples {bits:g} bits per element after {self._step} steps: begin nearer to them, "
            "with a wider scale, or with laplace_tail_mass above 0"
        )
        return InvalidConfigError.at("prior", found)

    def _bits_per_element(self) -> Any:
        # Not by calling the model, which would add noise again.
        log_probs = self._model._log_prob(self._model.prior, self._check)  # noqa: SLF001
        return -tf.reduce_mean(log_probs) / log(2)

    def _some_steps(self, count: Any) -> None:
        def step(done: Any) -> Any:
            limit = tf.shape(self._train)[0]
            rows = tf.random.uniform([self._batch_rows], maxval=limit, dtype=tf.int32)
            batch = tf.gather(self._train, rows)
            # The class reduces over coding_rank axes, which may be more than a row has.
            extra = self._model.coding_rank - (batch.shape.rank - 1)
            shape = tf.concat([tf.shape(batch)[:1], tf.ones([extra], tf.int32), tf.shape(batch)[1:]], 0)
            with tf.GradientTape() as tape:
                _, bits = self._model(tf.reshape(batch, shape), training=True)
                loss = tf.reduce_mean(bits)
            gradients = tape.gradient(loss, self._prior.variables)
            self._optimizer.apply(gradients)
            return (done + 1,)

        tf.while_loop(lambda done: done < count, step, (tf.constant(0),))
