"""Quantization to integers; an index picks the row of each symbol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.message import Message

from entropyd.contract.errors import Violation
from entropyd.contract.fields import Field, integer, optional
from entropyd.contract.kinds.indexed import INDEXED, IndexedConfig
from entropyd.contract.parameters import Array
from entropyd.contract.prior import Prior
from entropyd.v1 import types_pb2

# An axis of arrays of 33 axes: those of coding units of rank 32, and its own.
_CHANNEL_AXIS = optional(integer(-33, 32))


@dataclass(frozen=True, eq=False)
class ContinuousIndexedConfig(IndexedConfig):
    """Constructor arguments of TFC's ContinuousIndexedEntropyModel, each with its name.

    Defaults are TFC's too, but for `compression`, which is True here: a service that compresses would
    otherwise refuse to by default.

    Attributes:
      prior: Density of the noise-perturbed bottleneck at every index: one of `priors.indexed`, or a prior
        whose batch shape is the index ranges. It takes the place of prior_fn, index_ranges and parameter_fns.
      coding_rank: Number of innermost dimensions that make one coding unit.
      channel_axis: Axis of an array of indexes along which those of one element lie, one for each range. None
        if there is no such axis, which takes one range.
      compression: Whether coding tables are built; without them a model only estimates bit costs.
      stateless: TFC's flag for tables that are not variables; implied by `compression=False`.
      expected_grads: Whether gradients with respect to the noise are analytical expectations.
      tail_mass: Approximate probability left to the escape, 0 < x < 1.
      range_coder_precision: Rows of the tables rise to 2^precision, 1 to 16.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`; anything with such a name will do.
        None means `float32`. Quantization is computed in it.
      prior_dtype: The prior's own dtype, `float32` or `float64`; None stands for it.
      decode_sanity_check: Whether decoding checks the decoder's state at the end of each bit string.
      laplace_tail_mass: Weight of a Laplace mixture in bit costs, 0 <= x < 1; not used for the tables.
      tables: `(cdf, cdf_offset)` in TFC's layout, int32 vectors, to be used as they are; None means that
        they are built from the prior. They become part of the model's identity.

    Raises:
      InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
    """

    kind: ClassVar[str] = "continuous_indexed"
    message: ClassVar[type[Message]] = types_pb2.ContinuousIndexedConfig
    fields: ClassVar[Mapping[str, Field]] = {**INDEXED, "channel_axis": _CHANNEL_AXIS}
    class_name: ClassVar[str] = "continuous_indexed_entropy_model"

    prior: Prior
    coding_rank: int
    channel_axis: int | None = -1
    compression: bool = True
    stateless: bool = False
    expected_grads: bool = False
    tail_mass: float = 2**-8
    range_coder_precision: int = 12
    bottleneck_dtype: Any = None
    prior_dtype: Any = None
    decode_sanity_check: bool = True
    laplace_tail_mass: float = 0.0
    tables: tuple[Array, Array] | None = None

    def _index_violations(self, wrong: set[str]) -> Iterator[Violation]:
        ranges = self.index_ranges
        axes = len(ranges) + 1
        if "channel_axis" in wrong:
            return
        if self.channel_axis is None:
            if len(ranges) > 1:
                yield Violation("channel_axis", f"is None; expected an axis for index_ranges {ranges}")
        elif not -axes <= self.channel_axis < axes:
            # TFC stacks the grid of all indexes along it.
            found = f"is {self.channel_axis}; expected an axis of the grid of index_ranges {ranges}"
            yield Violation("channel_axis", f"{found}, from {-axes} to {axes - 1}")

    def to_message(self) -> types_pb2.ContinuousIndexedConfig:
        message: types_pb2.ContinuousIndexedConfig = super().to_message()
        message.no_channel_axis = self.channel_axis is None
        return message

    @classmethod
    def _read_message(cls, message: Any, problems: list[Violation]) -> dict[str, Any]:
        given = super()._read_message(message, problems)
        if message.no_channel_axis:
            if "channel_axis" in given:
                found = f"is {message.channel_axis} beside no_channel_axis; expected one of them"
                problems.append(Violation("channel_axis", found))
            given["channel_axis"] = None
        return given

    def _given(self) -> Iterator[tuple[str, Field, Any]]:
        yield from super()._given()
        if self.channel_axis is None:  # a value here, not an argument that is left out
            yield "channel_axis", _CHANNEL_AXIS, None
