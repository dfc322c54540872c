"""The frames for fitting a prior: requests and responses.

A fit lives in one worker, under an id that the server chose, from `fit_start` to `fit_end`. It computes only
during each `fit_advance`, for a short time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from entropyd.contract.config import ModelConfig
from entropyd.contract.parameters import Array
from entropyd.contract.prior import Prior
from entropyd_server.modeling.build_frames import config_of
from entropyd_server.modeling.limits import Work
from entropyd_server.modeling.protocol import Frame, expect

FIT_START = "fit_start"
FIT_ADVANCE = "fit_advance"
FIT_END = "fit_end"
FIT_STATE = "fit_state"

FITTING = Work("fit", "fitting the prior", "one step over the samples takes that long; send fewer")


@dataclass(frozen=True, eq=False)
class FitTask:
    """What to fit.

    Attributes:
      config: The prior's parameters are starting values.
      samples: [rows, *prior_shape], in the bottleneck's dtype, widened to float32 from 16 bits.
      max_steps: Most steps.
      validation_share: Share of rows that are held out.
    """

    config: ModelConfig
    samples: Array
    max_steps: int
    validation_share: float

    def to_frame(self, fit_id: str) -> Frame:
        """Makes the request to start."""
        options = {"max_steps": self.max_steps, "validation_share": self.validation_share}
        metadata = {"fit_id": fit_id, "options": json.dumps(options)}
        metadata["config"] = self.config.canonical_json.decode()
        return Frame(FIT_START, metadata, {"samples": self.samples})

    @classmethod
    def from_frame(cls, frame: Frame) -> FitTask:
        """Reads the request."""
        return cls(config_of(frame), frame.tensors["samples"], **json.loads(frame.metadata["options"]))


@dataclass(frozen=True, eq=False)
class FitState:
    """How far a fit has come.

    Attributes:
      step: Optimiser steps done.
      bits_per_element: On the held-out samples, with the best prior so far.
      remaining_seconds: At most, at the pace so far.
      done: Whether it has converged or used up its steps.
      prior: The best prior so far.
    """

    step: int
    bits_per_element: float
    remaining_seconds: float
    done: bool
    prior: Prior

    def to_frame(self, config: ModelConfig) -> Frame:
        """Makes the response; `config` is that of the task."""
        progress = [self.step, self.bits_per_element, self.remaining_seconds, self.done]
        fitted = config.with_prior(self.prior)
        metadata = {"progress": json.dumps(progress), "config": fitted.canonical_json.decode()}
        return Frame(FIT_STATE, metadata)

    @classmethod
    def from_frame(cls, frame: Frame) -> FitState:
        """Reads the response; raises as `expect` does."""
        metadata = expect(frame, FIT_STATE).metadata
        step, bits_per_element, remaining_seconds, done = json.loads(metadata["progress"])
        return cls(step, bits_per_element, remaining_seconds, done, config_of(frame).needed_prior)


def advance_frame(fit_id: str, seconds: float) -> Frame:
    """Makes the request to go on for so many seconds."""
    return Frame(FIT_ADVANCE, {"fit_id": fit_id, "seconds": str(seconds)})


def end_frame(fit_id: str) -> Frame:
    """Makes the request to forget a fit."""
    return Frame(FIT_END, {"fit_id": fit_id})
