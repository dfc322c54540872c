"""Building tables, as the server asks for it and a worker responds.

Invariant: tables are built by workers of their own, so builds delay nothing but builds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entropyd.contract.kinds import config_from_dict
from entropyd.contract.tables import RawTables
from entropyd_server.modeling.protocol import Frame, expect
from entropyd_server.modeling.work import Work, once_more_if_lost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entropyd.contract.config import ModelConfig
    from entropyd_server.modeling.builder_pool import BuilderPool

BUILD_TABLES = "build_tables"
TABLES = "tables"

BUILDING = Work(
    "building the tables",
    "they have many rows, or long ones",
)
# TFC takes about 0.7 ms for a row.
_LONG_ROWS = 4096


@dataclass(frozen=True, eq=False)
class BuiltTables:
    """Coding tables as TFC built them.

    Attributes:
      tables: The tables.
      built_with: Versions by name: python, numpy, tensorflow, tensorflow_compression,
        tensorflow_probability.
    """

    tables: RawTables
    built_with: Mapping[str, str]

    def to_frame(self) -> Frame:
        """The worker's answer to `build_tables`."""
        return Frame(TABLES, {"built_with": json.dumps(dict(self.built_with))}, self.tables.by_name())

    @classmethod
    def from_frame(cls, frame: Frame) -> BuiltTables:
        """Restores the tables, or raises the error that the worker answered with.

        Raises:
          EntropydError: What the worker raised.
          FrameError: If the frame is neither.
        """
        expect(frame, TABLES)
        built_with = json.loads(frame.metadata["built_with"])
        return cls(RawTables(**frame.tensors), built_with)


def build_tables_frame(config: ModelConfig) -> Frame:
    """The request to build the tables of `config`."""
    return Frame(BUILD_TABLES, {"config": config.canonical_json.decode()})


def config_of(frame: Frame) -> ModelConfig:
    """The configuration in a frame."""
    return config_from_dict(json.loads(frame.metadata["config"]))


class TableBuilder:
    """Builds tables on the workers of a pool."""

    def __init__(self, pool: BuilderPool) -> None:
        self._pool = pool

    async def build_tables(self, config: ModelConfig, caller: str = "") -> BuiltTables:
        """Builds the coding tables of a configuration from its prior, on a second worker if one is lost.

        Cancelling it ends the worker that builds, and another one is started.

        Args:
          config: The configuration.
          caller: Who takes turns with others.

        Raises:
          InvalidConfigError: If TFC cannot build them.
          LimitExceededError: If the tables are too large, or took too long or too much memory; `metadata`
            names the limit.
          UnavailableError: WORKER_LOST, if the second died too; DRAINING, if the server is stopping.
        """

        async def attempt() -> Frame:
            async with self._pool.turn(caller, long=config.table_rows > _LONG_ROWS) as exchange:
                return await exchange(build_tables_frame(config), BUILDING)

        return BuiltTables.from_frame(await once_more_if_lost(attempt))
