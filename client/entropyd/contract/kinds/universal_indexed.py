"""Universal quantization; noise level and index pick the row of each symbol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.message import Message

from entropyd.contract.fields import NOISE_LEVELS, Field
from entropyd.contract.kinds.indexed import INDEXED, IndexedConfig
from entropyd.contract.parameters import Array
from entropyd.contract.prior import Prior
from entropyd.v1 import types_pb2


@dataclass(frozen=True, eq=False)
class UniversalIndexedConfig(IndexedConfig):
    """Constructor arguments of TFC's UniversalIndexedEntropyModel, each with its name.

    Defaults are TFC's too, but for `compression`, which is True here: a service that compresses would
    otherwise refuse to by default.

    Attributes:
      prior: Density of the noise-perturbed bottleneck at every index: one of `priors.indexed`, or a prior
        whose batch shape is the index ranges. It takes the place of prior_fn, index_ranges and parameter_fns.
      coding_rank: Number of innermost dimensions that make one coding unit, at least 1.
      compression: Whether coding tables are built; without them a model only estimates bit costs.
      laplace_tail_mass: Weight of a Laplace mixture in bit costs, 0 <= x < 1; not used for the tables.
      expected_grads: Whether gradients with respect to the noise are analytical expectations.
      tail_mass: Approximate probability left to the escape, 0 < x < 1.
      range_coder_precision: Rows of the tables rise to 2^precision, 1 to 16.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`; anything with such a name will do.
        None means `float32`.
      prior_dtype: The prior's own dtype, `float32` or `float64`; None stands for it.
      stateless: TFC's flag for tables that are not variables; implied by `compression=False`.
      num_noise_levels: Number of levels of the discretised dither.
      decode_sanity_check: Whether decoding checks the decoder's state at the end of each bit string.
      tables: `(cdf, cdf_offset)` in TFC's layout, int32 vectors, to be used as they are; None means that
        they are built from the prior. They become part of the model's identity.

    Raises:
      InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
    """

    kind: ClassVar[str] = "universal_indexed"
    message: ClassVar[type[Message]] = types_pb2.UniversalIndexedConfig
    fields: ClassVar[Mapping[str, Field]] = {**INDEXED, "num_noise_levels": NOISE_LEVELS}
    class_name: ClassVar[str] = "universal_indexed_entropy_model"
    least_rank: ClassVar[int] = 1

    prior: Prior
    coding_rank: int
    compression: bool = True
    laplace_tail_mass: float = 0.0
    expected_grads: bool = False
    tail_mass: float = 2**-8
    range_coder_precision: int = 12
    bottleneck_dtype: Any = None
    prior_dtype: Any = None
    stateless: bool = False
    num_noise_levels: int = 15
    decode_sanity_check: bool = True
    tables: tuple[Array, Array] | None = None

    # The class has no such argument.
    channel_axis = -1

    @property
    def numbers_units(self) -> bool:
        return True

    @property
    def table_rows(self) -> int:
        return self.num_noise_levels * super().table_rows

    @property
    def rows_in_words(self) -> str:
        return f"num_noise_levels {self.num_noise_levels} times {super().rows_in_words}"
