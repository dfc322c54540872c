"""Perturbing bottlenecks: the operation, and the frames of its requests and responses.

Invariant: units with one `PerturbKey` can share a request; the response has one entry per unit, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from typing_extensions import Self

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
      kind: Of the model, as its configuration names it; only the server uses it.
    """

    model_id: str
    training: bool
    gradient: bool
    coding_shape: tuple[int, ...]
    index_gradient: bool = False
    index_dtype: str | None = None
    kind: str = ""

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

    def part(self, start: int, stop: int) -> PerturbUnits:
        """Units [start, stop), for a request."""
        numbers = None
        if self.config.numbers_units and not self.key.training:
            numbers = np.arange(self.first_unit + start, self.first_unit + stop)
        indexes = None if self.indexes is None else self.indexes[start:stop]
        return PerturbUnits(self.units[start:stop], indexes, numbers)


class UnitArrays:
    """A dataclass of arrays with an entry for each unit, or None; they are sliced and joined together."""

    @property
    def by_name(self) -> Mapping[str, Array]:
        """The arrays that are not None."""
        return {name: array for name, array in vars(self).items() if array is not None}

    def __getitem__(self, units: slice) -> Self:
        return type(self)(**{name: array[units] for name, array in self.by_name.items()})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Joins units; all parts have the same arrays."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in first.by_name})


@dataclass(frozen=True, eq=False)
class PerturbUnits(UnitArrays):
    """Units of one request.

    Attributes:
      units: As in `PerturbCall`.
      indexes: As in `PerturbCall`.
      numbers: int64 [units], for dither that depends on them; None where there is none.
    """

    units: Array
    indexes: Array | None = None
    numbers: Array | None = None

    def __len__(self) -> int:
        return len(self.units)


class Perturb:
    """Perturbs the units of a batch on a worker, in one request."""

    name = PERTURB

    async def run(self, parts: Sequence[tuple[PerturbCall, int, int]], exchange: Exchange) -> list[Perturbed]:
        """Perturbs units [start, stop) of each call, all of one key; returns one result per part.

        Raises:
          EntropydError: As the worker, or its supervisor.
        """
        call, _, _ = parts[0]
        pieces = [call.part(start, stop) for call, start, stop in parts]
        units = PerturbUnits.join(pieces)
        response = await exchange(perturb_frame(call.key, units, None), PERTURBING)
        if response.kind == UNKNOWN_MODEL:
            response = await exchange(perturb_frame(call.key, units, call.config), PERTURBING)
        perturbed = Perturbed.from_frame(response)
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        return [perturbed[start:stop] for start, stop in pairwise([0, *ends])]


_PERTURB = Perturb()


@dataclass(frozen=True, eq=False)
class Perturbed(UnitArrays):
    """Perturbed units and their cost.

    Attributes:
      perturbed: [units, *coding shape], in the model's bottleneck_dtype; uint16 bit patterns for bfloat16.
      bits: [units], of the prior's dtype; without a prior the penalty, of the bottleneck's dtype, and uint16
        bit patterns for bfloat16.
      gradient: Of the summed bits with respect to the units as sent; None if it was not asked for.
      index_gradient: Of the summed bits with respect to the indexes, of their shape and dtype; None if it was
        not asked for.
    """

    perturbed: Array
    bits: Array
    gradient: Array | None = None
    index_gradient: Array | None = None

    def to_frame(self) -> Frame:
        """Makes the response to `perturb`."""
        return Frame(PERTURBED, {}, self.by_name)

    @classmethod
    def from_frame(cls, frame: Frame) -> Perturbed:
        """Reads the response; raises as `expect` does."""
        return cls(**expect(frame, PERTURBED).tensors)


def perturb_frame(key: PerturbKey, units: PerturbUnits, config: ModelConfig | None) -> Frame:
    """Makes the request to perturb units. `config` is for a worker that does not have the model."""
    metadata = {
        "model_id": key.model_id,
        "training": str(int(key.training)),
        "gradient": str(int(key.gradient)),
        "index_gradient": str(int(key.index_gradient)),
    }
    if key.index_dtype is not None:
        metadata["index_dtype"] = key.index_dtype
    if config is not None:
        metadata["config"] = config.canonical_json.decode()
    return Frame(PERTURB, metadata, units.by_name)


def perturb_of(frame: Frame) -> tuple[PerturbKey, PerturbUnits, ModelConfig | None]:
    """Reads the request; raises FrameError if it is another frame."""
    if frame.kind != PERTURB:
        raise FrameError(f"a {frame.kind!r} frame is no {PERTURB!r} frame")
    units, metadata = PerturbUnits(**frame.tensors), frame.metadata
    key = PerturbKey(
        metadata["model_id"],
        training=metadata["training"] == "1",
        gradient=metadata["gradient"] == "1",
        coding_shape=units.units.shape[1:],
        index_gradient=metadata["index_gradient"] == "1",
        index_dtype=metadata.get("index_dtype"),
    )
    return key, units, config_of(frame) if "config" in metadata else None
