"""What the three kinds share whose rows are picked by index.

Invariant: the prior's batch shape is index_ranges, and its dtype is prior_dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import ClassVar

from entropyd.contract.config import CONTINUOUS
from entropyd.contract.errors import Violation
from entropyd.contract.fields import INDEXED_PRIOR, PRIOR_DTYPE, TABLES, Field, optional
from entropyd.contract.kinds.tabled import TabledConfig
from entropyd.contract.prior import Prior

# Constructor arguments that all of TFC's indexed entropy models have, and `tables`.
INDEXED: Mapping[str, Field] = MappingProxyType(
    {**CONTINUOUS, "prior": INDEXED_PRIOR, "prior_dtype": PRIOR_DTYPE, "tables": optional(TABLES)}
)


class IndexedConfig(TabledConfig):
    """A configuration of a model whose rows are picked by index.

    Attributes:
      least_rank: Least coding_rank.
      channel_axis: Axis of an array of indexes along which those of one element lie, one for each range; None
        if there is no such axis.
    """

    least_rank: ClassVar[int] = 0

    prior: Prior
    prior_dtype: str | None
    channel_axis: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "prior_dtype", self.prior.dtype)

    def _violations(self) -> Iterator[Violation]:
        found = list(super()._violations())
        yield from found
        wrong = {violation.field for violation in found}
        if wrong.isdisjoint({"prior", "prior_dtype"}):
            given = PRIOR_DTYPE.normalised(self.prior_dtype)
            if given not in {None, self.prior.dtype}:
                yield Violation("prior_dtype", f"is {given}; the prior's dtype is {self.prior.dtype}")
        if "prior" not in wrong:
            yield from self._index_violations(wrong)

    def _index_violations(self, wrong: set[str]) -> Iterator[Violation]:
        """Says what is wrong with the index ranges of a prior that is right, beside the fields `wrong`."""
        del wrong
        return iter(())

    @property
    def _least_coding_rank(self) -> int:
        return self.least_rank

    @property
    def unit_axes(self) -> tuple[int, ...]:
        return ()

    @property
    def index_ranges(self) -> tuple[int, ...]:
        return self.prior.batch_shape

    @property
    def table_rows(self) -> int:
        return prod(self.index_ranges)

    @property
    def rows_in_words(self) -> str:
        return f"index_ranges {self.index_ranges}"
