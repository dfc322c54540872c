"""Builds coding tables on the workers of a pool."""

from __future__ import annotations

from entropyd.contract.config import ModelConfig
from entropyd_server.modeling.build_frames import BUILDING, BuiltTables, build_tables_frame
from entropyd_server.modeling.builder_pool import BuilderPool
from entropyd_server.modeling.devices import BUILDER
from entropyd_server.modeling.leases import LeaseObserver, observed
from entropyd_server.modeling.protocol import Frame
from entropyd_server.modeling.unavailable import retry_if_lost

# TFC takes about 0.7 ms for a row.
_LONG_ROWS = 4096


class TableBuilder:
    def __init__(self, pool: BuilderPool, on_lease: LeaseObserver | None = None) -> None:
        self._pool = pool
        self._on_lease = on_lease

    async def build_tables(self, config: ModelConfig, caller: str = "") -> BuiltTables:
        """Builds the coding tables of a configuration from its prior; once more if a worker is lost.

        Cancelling it ends the worker that builds, and another one is started.

        The builds of different callers alternate.

        Raises:
          InvalidConfigError: If TFC cannot build them.
          LimitExceededError: If the tables are too large, or took too long or too much memory; `metadata`
            names the limit.
          UnavailableError: WORKER_LOST, if the second worker is lost too; DRAINING, if the server stops.
        """

        async def attempt() -> Frame:
            lease = self._pool.lease(caller, long=config.table_rows > _LONG_ROWS)
            async with observed(lease, BUILDING, BUILDER.name, self._on_lease) as exchange:
                return await exchange(build_tables_frame(config), BUILDING)

        return BuiltTables.from_frame(await retry_if_lost(attempt))
