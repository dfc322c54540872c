"""Perturbing bottlenecks: the operation, and the frames of its requests and responses.

Invariant: units with one `PerturbKey` can share a request; the response has one entry per unit, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd_server.modeling.build_frames import config_of
from entropyd_server.modeling.limits import Work
from entropyd_server.modeling.protocol import Frame, FrameError, expect

if TYPE_CHECKING:
    from entropyd_server.modeling.supervisor import Exchange

Array: TypeAlias = npt.NDArray[Any]

PERTURB = "perturb"
PERTURBED = "perturbed"
# The response of a worker without the model; the request is then sent again, with the configuration.
UNKNOWN_MODEL = "unknown_model"

PERTURBING = Work("perturb", "estimating bit costs", "the batch is large; send fewer coding units in a call")


@dataclass(frozen=True)
class PerturbKey:
    """What units must have in common to share a batch.

    Attributes:
      model_id: Config hash.
      training: Whether noise is continuous.
      gradient: Whether to compute the gradient of the bits.
      coding_shape: Axes of one unit, as sent: an axis of prior_shape may have length 1.
      index_gradient: Whether to compute the gradient of the bits with respect to the indexes.
      index_dtype: Name of the dtype of the indexes, as in `bfloat16`; None without indexes.
    """

    model_id: str
    training: bool
    gradient: bool
    coding_shape: tuple[int, ...]
    index_gradient: bool = False
    index_dtype: str | None = None

    @property
    def operation(self) -> Perturb:
        return _PERTURB


@dataclass(frozen=True, eq=False)
class PerturbCall:
    """Units to perturb.

    Attributes:
      units: [units, *coding shape], in the bottleneck's dtype; uint16 bit patterns for bfloat16.
      unit_symbols: Symbols of each, once axes of length 1 are repeated.
      indexes: [units, *coding shape, index ranges], the last axis only if the model has a channel axis,
        wherever that is in the caller's array. As sent: neither clipped nor rounded, in `key.index_dtype`;
        uint16 bit patterns for bfloat16. None for a model without indexes.
      first_unit: Number of the first unit; those after it have the numbers after it.
    """

    config: ModelConfig
    key: PerturbKey
    units: Array
    unit_symbols: int
    indexes: Array | None = None
    first_unit: int = 0


class Perturb:
    """Perturbs the units of a batch on a worker, in one request."""

    name = PERTURB

    async def run(self, parts: Sequence[tuple[PerturbCall, int, int]], exchange: Exchange) -> list[Perturbed]:
        """Perturbs units [start, stop) of each call, all of one key; returns one result per part.

        Raises:
          EntropydError: As the worker, or its supervisor.
        """
        call, _, _ = parts[0]
        pieces = [call.units[start:stop] for call, start, stop in parts]
        units = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        response = await exchange(perturb_frame(call.key, units, None), PERTURBING)
        if response.kind == UNKNOWN_MODEL:
            response = await exchange(perturb_frame(call.key, units, call.config), PERTURBING)
        perturbed = Perturbed.from_frame(response)
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        return [perturbed[start:stop] for start, stop in pairwise([0, *ends])]


_PERTURB = Perturb()


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Perturbed units and their cost.

    Attributes:
      perturbed: [units, *coding shape], in the model's bottleneck_dtype; uint16 bit patterns for bfloat16.
      bits: [units], of the prior's dtype.
      gradient: Of the summed bits with respect to the units as sent; None if it was not asked for.
      index_gradient: Of the summed bits with respect to the indexes, of their shape and dtype; None if it was
        not asked for.
    """

    perturbed: Array
    bits: Array
    gradient: Array | None
    index_gradient: Array | None = None

    def to_frame(self) -> Frame:
        """Makes the response to `perturb`."""
        tensors = {"perturbed": self.perturbed, "bits": self.bits}
        if self.gradient is not None:
            tensors["gradient"] = self.gradient
        return Frame(PERTURBED, {}, tensors)

    @classmethod
    def from_frame(cls, frame: Frame) -> Perturbed:
        """Reads the response; raises as `expect` does."""
        tensors = expect(frame, PERTURBED).tensors
        return cls(tensors["perturbed"], tensors["bits"], tensors.get("gradient"))

    def __getitem__(self, units: slice) -> Perturbed:
        gradient = None if self.gradient is None else self.gradient[units]
        return Perturbed(self.perturbed[units], self.bits[units], gradient)

    @classmethod
    def join(cls, parts: Sequence[Perturbed]) -> Perturbed:
        if len(parts) == 1:
            return parts[0]
        gradients = [part.gradient for part in parts if part.gradient is not None]
        return cls(
            np.concatenate([part.perturbed for part in parts]),
            np.concatenate([part.bits for part in parts]),
            np.concatenate(gradients) if gradients else None,
        )


def perturb_frame(key: PerturbKey, units: Array, config: ModelConfig | None) -> Frame:
    """Makes the request to perturb units.

    `units` is as in `PerturbCall`. `config` is for a worker that does not have the model.
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
    """Reads the request; raises FrameError if it is another frame."""
    if frame.kind != PERTURB:
        raise FrameError(f"a {frame.kind!r} frame is no {PERTURB!r} frame")
    units, metadata = frame.tensors["units"], frame.metadata
    training, gradient = metadata["training"] == "1", metadata["gradient"] == "1"
    key = PerturbKey(metadata["model_id"], training, gradient, units.shape[1:])
    return key, units, config_of(frame) if "config" in metadata else None
