"""The worker processes of a server: one per device, and some that build tables.

Invariant: a call in flight is counted on its device until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from entropyd_server.modeling.builder_pool import BuilderPool
from entropyd_server.modeling.devices import Device, builder_devices
from entropyd_server.modeling.leases import LeaseObserver
from entropyd_server.modeling.limits import WorkLimits
from entropyd_server.modeling.placement import Ring
from entropyd_server.modeling.supervisor import WorkerSupervisor
from entropyd_server.modeling.table_builder import TableBuilder
from entropyd_server.vital import Vital


class WorkerPool:
    """The workers of a server.

    Attributes:
      builder: Builds tables, on workers of its own, so that builds delay only builds.
      workers: By name: one for each device, and those that build tables.
      drained: Done from `drain` on.

    Args:
      devices: At least one.
      builders: Most workers that build tables; at least one.
      on_restart: Called with the worker's name and the reason at every start after its first.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        builders: int,
        limits: WorkLimits,
        max_model_bytes: int,
        on_restart: Callable[[str, str], None],
        on_lease: LeaseObserver | None = None,
    ) -> None:
        building = builder_devices(builders)
        self.workers = {
            device.name: WorkerSupervisor(
                device=device,
                limits=limits,
                max_model_bytes=max_model_bytes,
                on_restart=partial(on_restart, device.name),
            )
            for device in (*building, *devices)
        }
        self._builders = BuilderPool([self.workers[device.name] for device in building])
        self.builder = TableBuilder(self._builders, on_lease)
        self.drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.devices = tuple(device.name for device in devices)
        self._ring = Ring(self.devices)
        self._loads = dict.fromkeys(self.devices, 0)

    async def start(self, vital: Vital) -> None:
        """Begins to start the workers. `vital` guards their supervisors."""
        await self._builders.start(vital)
        for name in self.devices:
            vital.watch(f"supervisor of worker {name}", await self.workers[name].start())

    async def wait_ready(self) -> None:
        """Waits until the devices' workers and one that builds tables are ready.

        Raises:
          UnavailableError: DRAINING, if the pool is closed instead.
        """
        waits = (self.workers[name].wait_ready() for name in self.devices)
        await asyncio.gather(self._builders.wait_ready(), *waits)

    async def drain(self) -> None:
        """Ends builds and fits with DRAINING; estimates of bit costs go on."""
        if not self.drained.done():
            self.drained.set_result(None)
        await self._builders.close()

    async def close(self) -> None:
        """Ends the workers at once, and with them the calls in flight."""
        await self.drain()
        await asyncio.gather(*(self.workers[name].close() for name in self.devices))

    def ready_besides(self, device: str) -> bool:
        return any(self.workers[name].ready for name in self.devices if name != device)

    @contextmanager
    def placed(self, model_id: str) -> Iterator[str]:
        """Chooses the device for one call with a model, by name; counts the call until the block ends."""
        device = self._ring.choose(model_id, self._loads, lambda name: self.workers[name].ready)
        self._loads[device] += 1
        try:
            yield device
        finally:
            self._loads[device] -= 1
