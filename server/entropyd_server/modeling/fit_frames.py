"""Fitting, as the server asks for it and a worker answers.

Owns the frames. It must not know how a prior is fitted, nor import TensorFlow. Invariant: a fit lives in the
worker between turns, under an id that the server chose, until it is ended; each turn is short, so that other
calls go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entropyd_server.modeling.building import config_of
from entropyd_server.modeling.protocol import Frame, expect
from entropyd_server.modeling.work import Work

if TYPE_CHECKING:
    from entropyd.contract.config import ModelConfig
    from entropyd.contract.parameters import Array
    from entropyd.contract.prior import Prior

FIT_START = "fit_start"
FIT_ADVANCE = "fit_advance"
FIT_END = "fit_end"
FIT_STATE = "fit_state"

FITTING = Work("fitting the prior", "one step over the samples takes that long; send fewer")


@dataclass(frozen=True, eq=False)
class FitTask:
    """What to fit.

    Attributes:
      config: The prior's parameters are starting values.
      samples: [rows, *prior_shape], in the bottleneck's dtype, widened to float32 from 16 bits.
      max_steps: Most steps.
      validation_share: Share of rows held out.
    """

    config: ModelConfig
    samples: Array
    max_steps: int
    validation_share: float

    def to_frame(self, fit_id: str) -> Frame:
        """The request to begin."""
        options = {"max_steps": self.max_steps, "validation_share": self.validation_share}
        metadata = {"fit_id": fit_id, "options": json.dumps(options)}
        metadata["config"] = self.config.canonical_json.decode()
        return Frame(FIT_START, metadata, {"samples": self.samples})

    @classmethod
    def from_frame(cls, frame: Frame) -> FitTask:
        """What `to_frame` was called on."""
        return cls(config_of(frame), frame.tensors["samples"], **json.loads(frame.metadata["options"]))


@dataclass(frozen=True, eq=False)
class FitState:
    """How far a fit has come.

    Attributes:
      step: Optimiser steps done.
      bits_per_element: On the samples held out, by the best prior so far.
      remaining_seconds: At most, by the pace so far.
      done: Whether it has converged or used up its steps.
      prior: The best prior so far.
    """

    step: int
    bits_per_element: float
    remaining_seconds: float
    done: bool
    prior: Prior

    def to_frame(self, config: ModelConfig) -> Frame:
        """The worker's answer; `config` is the one that the fit began with."""
        figures = [self.step, self.bits_per_element, self.remaining_seconds, self.done]
        fitted = config.with_prior(self.prior)
        metadata = {"figures": json.dumps(figures), "config": fitted.canonical_json.decode()}
        return Frame(FIT_STATE, metadata)

    @classmethod
    def from_frame(cls, frame: Frame) -> FitState:
        """Restores the state, or raises the error that the worker answered with.

        Raises:
          EntropydError: What the worker raised.
          FrameError: If the frame is neither.
        """
        metadata = expect(frame, FIT_STATE).metadata
        step, bits_per_element, remaining_seconds, done = json.loads(metadata["figures"])
        return cls(step, bits_per_element, remaining_seconds, done, config_of(frame).needed_prior)


def advance_frame(fit_id: str, seconds: float) -> Frame:
    """The request to go on for so long."""
    return Frame(FIT_ADVANCE, {"fit_id": fit_id, "seconds": str(seconds)})


def end_frame(fit_id: str) -> Frame:
    """The request to forget a fit."""
    return Frame(FIT_END, {"fit_id": fit_id})
