"""What kinds share whose argument `tables` takes the place of tables built from the prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import Violation
from entropyd.contract.parameters import Array
from entropyd.contract.tables import RawTables

if TYPE_CHECKING:
    from typing_extensions import Self


class TabledConfig(ModelConfig):
    """A configuration with `tables`: `(cdf, cdf_offset)` to be used as they are, or None."""

    tables: tuple[Array, Array] | None

    def _violations(self) -> Iterator[Violation]:
        yield from super()._violations()
        if self.tables is not None and self.compression is False:
            yield Violation("tables", "are given, but compression is False")

    @property
    def supplied_tables(self) -> RawTables | None:
        return None if self.tables is None else RawTables(*self.tables)

    def with_tables(self, tables: RawTables) -> Self:
        return replace(self, tables=(tables.cdf, tables.cdf_offset))  # type: ignore[type-var]
