"""What builds the tables of models: workers of the modeling role, or nothing without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from entropyd.contract.config import ModelConfig
from entropyd.contract.tables import RawTables
from entropyd_server.errors import role_missing
from entropyd_server.installation import MODELING


class Built(Protocol):
    """Coding tables, and the versions of the libraries that built them, by name."""

    @property
    def tables(self) -> RawTables: ...

    @property
    def built_with(self) -> Mapping[str, str]: ...


class TableBuilder(Protocol):
    async def build_tables(self, config: ModelConfig, caller: str) -> Built:
        """Builds the tables of a configuration from its prior; `caller` takes turns with others."""
        ...


class NoTableBuilder:
    """Stands for the workers on a server without the modeling role."""

    async def build_tables(self, config: ModelConfig, caller: str) -> Built:  # noqa: ARG002 - as TableBuilder
        """Refuses to build.

        Raises:
          RoleMissingError: Always.
        """
        what = f"building the tables of this {config.kind} model, whose config supplies none,"
        raise role_missing(MODELING, "CreateModel", what)
