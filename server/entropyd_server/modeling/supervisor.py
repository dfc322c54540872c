"""Keeps one worker process running, and leases it to callers: start, limits, kill, restart.

Invariants: every exchange ends with the worker's response or with an error that says why not; the loss of a
worker fails the call in flight and no other, and another worker is started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

from entropyd.contract.errors import UnavailableError
from entropyd_server.modeling.devices import BUILDER, Device
from entropyd_server.modeling.limits import MEMORY_LIMIT, TIME_LIMIT, Work, WorkLimits
from entropyd_server.modeling.process import ProcessEndedError, WorkerProcess
from entropyd_server.modeling.protocol import Frame, FrameError, versions_of
from entropyd_server.modeling.unavailable import WORKER_LOST, stopping

Exchange: TypeAlias = Callable[[Frame, Work], Awaitable[Frame]]

log = logging.getLogger("entropyd_server.modeling")

# When to retry: importing TensorFlow takes about this long.
_RESTART_SECONDS = 5.0
# Pauses between starts of a worker that ends before it is ready.
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0

DIED = "died"
START_FAILED = "start_failed"
CANCELLED = "cancelled"
RESTART_REASONS = (DIED, START_FAILED, CANCELLED, TIME_LIMIT, MEMORY_LIMIT)


class WorkerSupervisor:
    """One worker process, leased to callers in the order in which they came.

    Callers also wait while the worker starts. Cancelling a caller whose work is in flight kills the worker:
    its restart delays the next callers by a few seconds, its work could by `max_seconds`.

    Attributes:
      restarts: Number of starts after the first.

    Args:
      limits: What one exchange may take.
      max_model_bytes: Most bytes of one model's tables.
      on_restart: Called at every start after the first with the reason, one of RESTART_REASONS.
    """

    def __init__(
        self,
        *,
        device: Device = BUILDER,
        limits: WorkLimits,
        max_model_bytes: int,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        self.device = device
        self.restarts = 0
        self._limits = limits
        self._on_restart = on_restart
        self._arguments = (
            f"--cuda-visible-devices={device.cuda_visible_devices}",
            f"--max-model-bytes={max_model_bytes}",
            f"--max-build-memory-bytes={limits.max_memory_bytes}",
        )
        self._lease = asyncio.Lock()
        # Set while a worker is ready, and forever after `close`.
        self._settled = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._versions: dict[str, str] = {}
        self._reason = DIED
        self._closed = False
        self._life: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a worker runs and has imported TensorFlow."""
        return self._process is not None

    @property
    def up(self) -> bool:
        """Whether the worker is ready, or was never started."""
        return self.ready or self._life is None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the worker's libraries, by name; empty before the first one is ready."""
        return dict(self._versions)

    async def start(self) -> asyncio.Task[None]:
        """Begins to start the worker. The task keeps one running until `close`."""
        self._life = asyncio.create_task(self._keep_running())
        return self._life

    async def wait_ready(self) -> None:
        """Waits until the worker is ready.

        Raises:
          UnavailableError: DRAINING, if the supervisor is closed instead.
        """
        await self._ready_process()

    @asynccontextmanager
    async def lease(self, *, only_if_ready: bool = False) -> AsyncIterator[Exchange]:
        """Waits for the worker, and reserves it until the end of the `async with` block.

        Args:
          only_if_ready: Whether to raise, instead of waiting, if no worker is ready when the lease begins.

        Yields:
          A function that sends a request and waits for the response, which may be an `error` frame. It raises
          LimitExceededError if that took too long or too much memory (`metadata` names the limit), and
          UnavailableError with WORKER_LOST if the worker died.

        Raises:
          UnavailableError: DRAINING, if the supervisor is closed; WORKER_LOST, with `only_if_ready`.
        """
        async with self._lease:
            if only_if_ready and not self.ready:
                raise self._lost("was lost")
            yield partial(self._exchange, await self._ready_process())

    async def close(self) -> None:
        """Ends the worker at once, and with it the call in flight."""
        self._closed = True
        self._settled.set()
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})

    async def _ready_process(self) -> WorkerProcess:
        while self._process is None:
            if self._closed:
                raise stopping()
            await self._settled.wait()
        return self._process

    async def _exchange(self, process: WorkerProcess, request: Frame, work: Work) -> Frame:
        try:
            return await self._limited(process, request, work)
        except (ProcessEndedError, FrameError) as cause:
            self._discard(process, DIED)
            how = str(cause) if isinstance(cause, ProcessEndedError) else "broke the protocol"
            raise self._lost(f"{how} while {work.doing}") from cause

    async def _limited(self, process: WorkerProcess, request: Frame, work: Work) -> Frame:
        response = asyncio.create_task(process.exchange(request))
        excess = asyncio.create_task(self._limits.exceeded(process, work))
        reason = CANCELLED
        try:
            await asyncio.wait({response, excess}, return_when=asyncio.FIRST_COMPLETED)
            if response.done():
                return response.result()
            reason, error = excess.result()
            raise error
        finally:
            if not response.done():
                self._discard(process, reason)
            for task in (response, excess):
                task.cancel()
            await asyncio.wait({response, excess})

    def _discard(self, process: WorkerProcess, reason: str) -> None:
        """Kills a worker; `_keep_running` starts the next."""
        process.kill()
        if self._process is process:
            self._process = None
            self._reason = reason
            if not self._closed:
                self._settled.clear()

    def _lost(self, how: str) -> UnavailableError:
        if self._closed:
            return stopping()
        return UnavailableError(
            f"the modeling worker {how}; another one is starting",
            reason=WORKER_LOST,
            retry_after_s=_RESTART_SECONDS,
        )

    async def _keep_running(self) -> None:
        backoff_s = 0.0
        try:
            while True:
                try:
                    await self._run_one()
                    backoff_s = 0.0
                    self._restarting(self._reason)
                except (ProcessEndedError, FrameError, OSError) as cause:
                    backoff_s = min(max(2 * backoff_s, _FIRST_BACKOFF_SECONDS), _LONGEST_BACKOFF_SECONDS)
                    log.error(
                        "worker %s did not start: %s; trying again in %g s",
                        self.device.name,
                        cause,
                        backoff_s,
                    )
                    await asyncio.sleep(backoff_s)
                    self._restarting(START_FAILED)
        finally:
            # However this ends, no caller may wait for a worker that never starts.
            self._closed = True
            self._settled.set()

    def _restarting(self, reason: str) -> None:
        self.restarts += 1
        self._reason = DIED
        if self._on_restart is not None:
            self._on_restart(reason)

    async def _run_one(self) -> None:
        """Runs a worker from its start to its end.

        Raises:
          ProcessEndedError: If it ends before it is ready.
          FrameError: If its first frame is another than `ready`.
          OSError: If it cannot be started.
        """
        process = await WorkerProcess.spawn(self._arguments, self.device.name)
        try:
            self._versions = versions_of(await process.receive())
            self._process = process
            self._settled.set()
            log.info("worker %s is ready", self.device.name)
            how = await process.ended()
            log.warning("worker %s %s (%s); starting another", self.device.name, how, self._reason)
        finally:
            self._discard(process, self._reason)
            await process.ended()
