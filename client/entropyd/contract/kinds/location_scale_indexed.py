"""Quantization to integers around a location; the index of a scale picks the row of each symbol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.message import Message

from entropyd.contract.errors import Violation
from entropyd.contract.fields import Field
from entropyd.contract.kinds.indexed import INDEXED, IndexedConfig
from entropyd.contract.parameters import Array
from entropyd.contract.prior import Prior
from entropyd.v1 import types_pb2


@dataclass(frozen=True, eq=False)
class LocationScaleIndexedConfig(IndexedConfig):
    """Constructor arguments of TFC's LocationScaleIndexedEntropyModel, each with its name.

    Defaults are TFC's too, but for `compression`, which is True here: a service that compresses would
    otherwise refuse to by default.

    Attributes:
      prior: Density of the noise-perturbed bottleneck at every index: one of `priors.indexed`, or a prior
        whose batch shape is the index ranges. It takes the place of prior_fn, num_scales and scale_fn.
      coding_rank: Number of innermost dimensions that make one coding unit.
      compression: Whether coding tables are built; without them a model only estimates bit costs.
      stateless: TFC's flag for tables that are not variables; implied by `compression=False`.
      expected_grads: Whether gradients with respect to the noise are analytical expectations.
      tail_mass: Approximate probability left to the escape, 0 < x < 1.
      range_coder_precision: Rows of the tables rise to 2^precision, 1 to 16.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`; anything with such a name will do.
        None means `float32`. Quantization is computed in it.
      prior_dtype: The prior's own dtype, `float32` or `float64`; None stands for it.
      laplace_tail_mass: Weight of a Laplace mixture in bit costs, 0 <= x < 1; not used for the tables.
      tables: `(cdf, cdf_offset)` in TFC's layout, int32 vectors, to be used as they are; None means that
        they are built from the prior. They become part of the model's identity.

    Raises:
      InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
    """

    kind: ClassVar[str] = "location_scale_indexed"
    message: ClassVar[type[Message]] = types_pb2.LocationScaleIndexedConfig
    fields: ClassVar[Mapping[str, Field]] = {
        name: field for name, field in INDEXED.items() if name != "decode_sanity_check"
    }
    class_name: ClassVar[str] = "location_scale_indexed_entropy_model"

    prior: Prior
    coding_rank: int
    compression: bool = True
    stateless: bool = False
    expected_grads: bool = False
    tail_mass: float = 2**-8
    range_coder_precision: int = 12
    bottleneck_dtype: Any = None
    prior_dtype: Any = None
    laplace_tail_mass: float = 0.0
    tables: tuple[Array, Array] | None = None

    # The class has no such arguments.
    decode_sanity_check = True
    channel_axis = None

    def _index_violations(self, wrong: set[str]) -> Iterator[Violation]:
        del wrong
        if len(self.index_ranges) != 1:
            found = f"has index_ranges {self.index_ranges}; expected one range, the number of scales"
            yield Violation("prior", found)

    @property
    def num_scales(self) -> int:
        return self.index_ranges[0]
