"""Quantization to integers, or to integers plus an offset, with one prior for the whole batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
from google.protobuf.message import Message

from entropyd.contract import quantization_offset as offsets
from entropyd.contract.config import CONTINUOUS, ModelConfig
from entropyd.contract.errors import Violation
from entropyd.contract.fields import FLAG, INT32_VECTOR, PRIOR, SHAPE, Field, optional
from entropyd.contract.parameters import Array, integers
from entropyd.contract.prior import Prior
from entropyd.contract.quantization_offset import QUANTIZATION_OFFSET
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2


@dataclass(frozen=True, eq=False)
class ContinuousBatchedConfig(ModelConfig):
    """Constructor arguments of TFC's ContinuousBatchedEntropyModel, each with its name.

    Defaults are TFC's too, but for `compression`, which is True here: a service that compresses would
    otherwise refuse to by default.

    Attributes:
      prior: Density of the noise-perturbed bottleneck. None for a model that is made of tables alone and
        estimates no bit costs.
      coding_rank: Number of innermost dimensions that make one coding unit.
      compression: Whether coding tables are built; without them a model only estimates bit costs.
      stateless: TFC's flag for tables that are not variables; implied by `compression=False`.
      expected_grads: Whether gradients with respect to the noise are analytical expectations.
      tail_mass: Approximate probability left to the escape, 0 < x < 1.
      range_coder_precision: Rows of the tables rise to 2^precision, 1 to 16.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`; anything with such a name will do.
        None means `float32`. Quantization is computed in it.
      prior_shape: Batch shape of the prior; to be given where there is none.
      cdf: int32 [length], rows in TFC's layout to be used as they are; None means that they are built from
        the prior. They become part of the model's identity.
      cdf_offset: int32 [rows], together with `cdf`: the smallest integer that each row covers.
      cdf_shapes: None. Room for tables that come later is of no use to a model that never changes.
      offset_heuristic: Whether a quantization offset is computed from the prior (its mode, else median, else
        mean, less the nearest integer), once, when the tables are built. Of no effect beside `cdf` or
        `quantization_offset`.
      quantization_offset: What is subtracted before rounding and added afterwards, broadcast to prior_shape;
        rounded to bottleneck_dtype, and held as float64 for such a bottleneck, else float32.
      decode_sanity_check: Whether decoding checks the decoder's state at the end of each bit string.
      laplace_tail_mass: Weight of a Laplace mixture in bit costs, 0 <= x < 1; not used for the tables.

    Raises:
      InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
    """

    kind: ClassVar[str] = "continuous_batched"
    message: ClassVar[type[Message]] = types_pb2.ContinuousBatchedConfig
    fields: ClassVar[Mapping[str, Field]] = {
        **CONTINUOUS,
        "prior": optional(PRIOR),
        "prior_shape": optional(SHAPE),
        "cdf": optional(INT32_VECTOR),
        "cdf_offset": optional(INT32_VECTOR),
        "offset_heuristic": FLAG,
        "quantization_offset": optional(QUANTIZATION_OFFSET),
    }
    required: ClassVar[tuple[str, ...]] = ("coding_rank",)
    class_name: ClassVar[str] = "continuous_batched_entropy_model"

    prior: Prior | None = None
    coding_rank: int = None  # type: ignore[assignment]  # TFC's signature, and refused
    compression: bool = True
    stateless: bool = False
    expected_grads: bool = False
    tail_mass: float = 2**-8
    range_coder_precision: int = 12
    bottleneck_dtype: Any = None
    prior_shape: tuple[int, ...] = None  # type: ignore[assignment]  # the prior's
    cdf: Array | None = None
    cdf_offset: Array | None = None
    cdf_shapes: None = None
    offset_heuristic: bool = True
    quantization_offset: Any = None
    decode_sanity_check: bool = True
    laplace_tail_mass: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior is not None:
            object.__setattr__(self, "prior_shape", self.prior.batch_shape)
        if self.quantization_offset is not None:
            offset = offsets.rounded(self.quantization_offset, self.bottleneck_dtype)
            object.__setattr__(self, "quantization_offset", offset)

    def _violations(self) -> Iterator[Violation]:
        found = list(super()._violations())
        yield from found
        related = self.fields.keys() - CONTINUOUS.keys() | {"prior", "compression", "bottleneck_dtype"}
        if related.isdisjoint(violation.field for violation in found):
            yield from self._contradictions()

    def _contradictions(self) -> Iterator[Violation]:
        if self.prior is None:
            yield from self._without_prior()
        elif self.prior_shape is not None and tuple(self.prior_shape) != self.prior.batch_shape:
            yield Violation("prior_shape", f"is {self.prior_shape}; the prior's is {self.prior.batch_shape}")
        if (self.cdf is None) != (self.cdf_offset is None):
            missing = "cdf" if self.cdf is None else "cdf_offset"
            yield Violation(missing, "is missing; cdf and cdf_offset are given together")
        elif self.cdf is not None and not self.compression:
            yield Violation("cdf", "is given, but compression is False")
        if self.cdf_shapes is not None:
            expected = "expected cdf and cdf_offset, as a model never changes"
            yield Violation("cdf_shapes", f"is {self.cdf_shapes!r:.80}; {expected}")
        if self.quantization_offset is not None:
            yield from self._offset_contradictions()

    def _without_prior(self) -> Iterator[Violation]:
        if self.cdf is None:
            yield Violation("prior", "is missing; expected one of entropyd.priors, or cdf and prior_shape")
        elif self.prior_shape is None:
            yield Violation("prior_shape", "is missing; expected with a prior or without one")
        if self.offset_heuristic and self.quantization_offset is None:
            expected = "expected a prior, quantization_offset, or offset_heuristic=False"
            yield Violation("offset_heuristic", f"is True; {expected}")

    def _offset_contradictions(self) -> Iterator[Violation]:
        given: Any = () if self.prior_shape is None else self.prior_shape
        prior_shape = tuple(given) if self.prior is None else self.prior.batch_shape
        dtype = CONTINUOUS["bottleneck_dtype"].normalised(self.bottleneck_dtype)
        yield from offsets.contradictions(self.quantization_offset, prior_shape, "prior_shape", dtype)

    @property
    def _least_coding_rank(self) -> int:
        if self.prior is not None:
            return super()._least_coding_rank
        given: Any = self.prior_shape
        return 0 if given is None else len(integers("prior_shape", given)[0])

    @property
    def table_rows(self) -> int:
        return prod(self.prior_shape)

    @property
    def rows_in_words(self) -> str:
        return f"prior_shape {self.prior_shape}"

    @property
    def supplied_tables(self) -> RawTables | None:
        if self.cdf is None or self.cdf_offset is None:
            return None
        return RawTables(self.cdf, self.cdf_offset, self._given_rows)

    @property
    def _given_rows(self) -> Array | None:
        return offsets.of_rows(self.quantization_offset, self.prior_shape)

    def with_tables(self, tables: RawTables) -> ContinuousBatchedConfig:
        offset = tables.quantization_offset
        return replace(
            self,
            cdf=tables.cdf,
            cdf_offset=tables.cdf_offset,
            offset_heuristic=self.offset_heuristic and (self.prior is not None or offset is not None),
            quantization_offset=None if offset is None else self.shaped_offset(offset),
        )

    def allows_offset(self, offset: Array | None) -> bool:
        given = self._given_rows
        if offset is None:
            return given is None
        if given is not None:
            return np.array_equal(offset, given)
        computed = self.offset_heuristic and self.cdf is None
        rounded = offsets.rounded(offset, self.bottleneck_dtype)
        return computed and offset.dtype == rounded.dtype and np.array_equal(offset, rounded)

    def shaped_offset(self, offset: Array) -> Array:
        return offsets.shaped_like(self.quantization_offset, offset, self.prior_shape)

    def with_fixed_offset(self, tables: RawTables) -> ContinuousBatchedConfig:
        if self.quantization_offset is not None or not self.offset_heuristic:
            return self
        offset = tables.quantization_offset
        shaped = None if offset is None else self.shaped_offset(offset)
        return replace(self, quantization_offset=shaped, offset_heuristic=False)

    def _given(self) -> Iterator[tuple[str, Field, Any]]:
        for name, field, value in super()._given():
            if name != "prior_shape" or self.prior is None:
                yield name, field, value
