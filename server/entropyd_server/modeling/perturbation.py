"""Perturbing bottlenecks, as the server asks for it and a worker answers.

Owns the values on both sides and their frames. It must not know how bits are estimated, nor import
TensorFlow.
Invariant: units with one `PerturbKey` may be computed together, and the answer has one entry per unit, in
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from entropyd_server.modeling.building import config_of
from entropyd_server.modeling.protocol import Frame, FrameError, expect
from entropyd_server.modeling.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entropyd.contract.config import ModelConfig

Array: TypeAlias = npt.NDArray[Any]

PERTURB = "perturb"
PERTURBED = "perturbed"
# The worker's answer where it does not hold the model; the request comes again, with the configuration.
UNKNOWN_MODEL = "unknown_model"

PERTURBING = Work("estimating bit costs", "the batch is large; send fewer coding units in a call")


@dataclass(frozen=True)
class PerturbKey:
    """What units must have in common to be computed together.

    Attributes:
      model_id: Config hash.
      training: Whether noise is continuous.
      gradient: Whether the gradient of the bits is wanted.
      coding_shape: Axes of one unit, as they were sent: an axis of prior_shape may have length 1.
    """

    model_id: str
    training: bool
    gradient: bool
    coding_shape: tuple[int, ...]

    @property
    def operation(self) -> str:
        """What metrics call it."""
        return PERTURB


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Perturbed units and their cost.

    Attributes:
      perturbed: [units, *coding shape], in the model's bottleneck_dtype; uint16 bit patterns for bfloat16.
      bits: [units], of the prior's dtype.
      gradient: As the units that were sent: of the summed bits with respect to them; None unless asked for.
    """

    perturbed: Array
    bits: Array
    gradient: Array | None

    def to_frame(self) -> Frame:
        """The worker's answer to `perturb`."""
        tensors = {"perturbed": self.perturbed, "bits": self.bits}
        if self.gradient is not None:
            tensors["gradient"] = self.gradient
        return Frame(PERTURBED, {}, tensors)

    @classmethod
    def from_frame(cls, frame: Frame) -> Perturbed:
        """Restores the answer, or raises the error that the worker answered with.

        Raises:
          EntropydError: What the worker raised.
          FrameError: If the frame is neither.
        """
        tensors = expect(frame, PERTURBED).tensors
        return cls(tensors["perturbed"], tensors["bits"], tensors.get("gradient"))

    def __getitem__(self, units: slice) -> Perturbed:
        """Some of the units."""
        gradient = None if self.gradient is None else self.gradient[units]
        return Perturbed(self.perturbed[units], self.bits[units], gradient)

    @classmethod
    def joined(cls, parts: Sequence[Perturbed]) -> Perturbed:
        """All units of `parts`, in order."""
        if len(parts) == 1:
            return parts[0]
        gradients = [part.gradient for part in parts if part.gradient is not None]
        return cls(
            np.concatenate([part.perturbed for part in parts]),
            np.concatenate([part.bits for part in parts]),
            np.concatenate(gradients) if gradients else None,
        )


def perturb_frame(key: PerturbKey, units: Array, config: ModelConfig | None) -> Frame:
    """The request to perturb units.

    Args:
      key: What they have in common.
      units: [units, *coding shape], in the model's bottleneck_dtype; uint16 bit patterns for bfloat16.
      config: The model's, where the worker does not hold it.
    """
    metadata = {
        "model_id": key.model_id,
        "training": str(int(key.training)),
        "gradient": str(int(key.gradient)),
    }
    if config is not None:
        metadata["config"] = config.canonical_json.decode()
    return Frame(PERTURB, metadata, {"units": units})


def perturb_of(frame: Frame) -> tuple[PerturbKey, Array, ModelConfig | None]:
    """What `perturb_frame` was given.

    Raises:
      FrameError: If it is another frame.
    """
    if frame.kind != PERTURB:
        raise FrameError(f"a {frame.kind!r} frame is no {PERTURB!r} frame")
    units, metadata = frame.tensors["units"], frame.metadata
    key = PerturbKey(
        metadata["model_id"], metadata["training"] == "1", metadata["gradient"] == "1", units.shape[1:]
    )
    return key, units, config_of(frame) if "config" in metadata else None
