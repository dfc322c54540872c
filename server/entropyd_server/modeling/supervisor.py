"""Keeps one worker process running, and hands it the work.

Owns the worker's life (start, limits, kill, restart) and the queue before it. It must not import TensorFlow
or know how tables are built. Invariant: every call settles, with the worker's answer or an error that says
what became of it; a worker that is lost or killed takes down the call in flight and nothing else, and another
one is started without anybody asking.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from entropyd.contract.errors import LimitExceededError, UnavailableError
from entropyd_server.modeling.process import ProcessEndedError, WorkerProcess
from entropyd_server.modeling.protocol import (
    BuiltTables,
    Frame,
    FrameError,
    build_tables_frame,
    versions_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd.contract.config import UniversalBatchedConfig

log = logging.getLogger("entropyd_server.modeling")

# Importing TensorFlow takes about this long; sooner, a retry would only wait.
_RESTART_SECONDS = 5.0
_MEMORY_POLL_SECONDS = 0.05
# Between starts of a worker that ends before it is ready.
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0

DIED = "died"
START_FAILED = "start_failed"
TIME_LIMIT = "time_limit"
MEMORY_LIMIT = "memory_limit"
CANCELLED = "cancelled"


class WorkerSupervisor:
    """The modeling plane of one device, as the rest of the server sees it.

    Calls run one at a time, in the order in which they came; they wait while the worker starts, each for as
    long as its caller lets it. A call that is cancelled while it waits leaves nothing behind. If its build is
    in flight, the worker is killed and started again: that costs those behind it a few seconds, where a build
    that nobody waits for could cost them `max_build_seconds`.

    Attributes:
      device: `cpu`, or `gpu:N`.
      restarts: Number of starts after the first.

    Args:
      device: See the attribute.
      max_build_seconds: Longest time that one build may take.
      max_build_memory_bytes: Most that one build may add to the worker's resident memory.
      max_model_bytes: Most bytes of one model's tables.
      on_restart: Called at every start after the first with the reason: `died`, `start_failed`, `time_limit`,
        `memory_limit` or `cancelled`.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        max_build_seconds: float,
        max_build_memory_bytes: int,
        max_model_bytes: int,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        self.device = device
        self.restarts = 0
        self._max_build_seconds = max_build_seconds
        self._max_build_memory_bytes = max_build_memory_bytes
        self._on_restart = on_restart
        self._arguments = (
            f"--device={device}",
            f"--max-model-bytes={max_model_bytes}",
            f"--max-build-memory-bytes={max_build_memory_bytes}",
        )
        self._queue = asyncio.Lock()
        # Set while a worker is ready, and for good when there will be none any more.
        self._settled = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._versions: dict[str, str] = {}
        self._reason = DIED
        self._closed = False
        self._life: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a worker has imported TensorFlow and waits for work or works."""
        return self._process is not None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the worker's libraries, by name; empty until one was ready."""
        return dict(self._versions)

    async def start(self) -> None:
        """Begins starting the worker; `wait_ready` waits for it."""
        self._life = asyncio.create_task(self._keep_running())

    async def wait_ready(self) -> None:
        """Waits until the worker answers.

        Raises:
          UnavailableError: DRAINING, if the supervisor is closed instead.
        """
        await self._ready_process()

    async def build_tables(self, config: UniversalBatchedConfig) -> BuiltTables:
        """Builds the coding tables of a configuration from its prior.

        Raises:
          InvalidConfigError: If TFC cannot build them.
          LimitExceededError: If the tables are too large, or took too long or too much memory; `metadata`
            names the limit.
          UnavailableError: WORKER_LOST, if the worker died; DRAINING, if the supervisor is closed.
        """
        async with self._queue:
            process = await self._ready_process()
            try:
                return BuiltTables.from_frame(await self._build(process, build_tables_frame(config)))
            except (ProcessEndedError, FrameError) as cause:
                self._discard(process, DIED)
                raise self._lost(cause) from cause

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
                raise UnavailableError("the server is stopping", reason="DRAINING")
            await self._settled.wait()
        return self._process

    async def _build(self, process: WorkerProcess, request: Frame) -> Frame:
        """Exchanges frames within the limits of time and memory."""
        build = asyncio.create_task(process.exchange(request))
        excess = asyncio.create_task(self._excess(process))
        reason = CANCELLED
        try:
            await asyncio.wait({build, excess}, return_when=asyncio.FIRST_COMPLETED)
            if build.done():
                return build.result()
            reason, error = excess.result()
            raise error
        finally:
            if not build.done():
                self._discard(process, reason)
            for task in (build, excess):
                task.cancel()
            await asyncio.wait({build, excess})

    async def _excess(self, process: WorkerProcess) -> tuple[str, LimitExceededError]:
        """Waits until a build exceeds a limit; the reason for the restart and the caller's error."""
        clock = asyncio.get_running_loop().time
        end, resident_bytes = clock() + self._max_build_seconds, process.resident_bytes
        while clock() < end:
            if process.resident_bytes - resident_bytes > self._max_build_memory_bytes:
                limit = self._max_build_memory_bytes
                message = f"building the tables took more than the server's max_build_memory_bytes of {limit}"
                return MEMORY_LIMIT, _limit_exceeded(message, "max_build_memory_bytes", limit)
            await asyncio.sleep(min(_MEMORY_POLL_SECONDS, max(end - clock(), 0)))
        message = (
            "building the tables took longer than the server's max_build_seconds of "
            f"{self._max_build_seconds:g}: they have many rows or long ones, or the tails of a mixture or "
            "NoisyDeepFactorized lie far from 0, where TFC begins to search for them in steps of 0.1"
        )
        return TIME_LIMIT, _limit_exceeded(message, "max_build_seconds", self._max_build_seconds)

    def _discard(self, process: WorkerProcess, reason: str) -> None:
        """Kills a worker and lets no later call have it; `_keep_running` starts the next."""
        process.kill()
        if self._process is process:
            self._process = None
            self._reason = reason
            if not self._closed:
                self._settled.clear()

    def _lost(self, cause: Exception) -> UnavailableError:
        if self._closed:
            return UnavailableError("the server is stopping", reason="DRAINING")
        how = str(cause) if isinstance(cause, ProcessEndedError) else "broke the protocol"
        return UnavailableError(
            f"the modeling worker {how} while it built the tables; another one is starting",
            reason="WORKER_LOST",
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
                    log.error("worker %s did not start: %s; again in %g s", self.device, cause, backoff_s)
                    await asyncio.sleep(backoff_s)
                    self._restarting(START_FAILED)
        finally:
            # However this ends, no call may wait for a worker that will not come.
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
          FrameError: If it begins with something else.
          OSError: If it cannot be started.
        """
        process = await WorkerProcess.spawn(self._arguments, self.device)
        try:
            self._versions = versions_of(await process.receive())
            self._process = process
            self._settled.set()
            log.info("worker %s is ready", self.device)
            how = await process.ended()
            log.warning("worker %s %s (%s); starting another", self.device, how, self._reason)
        finally:
            self._discard(process, self._reason)
            await process.ended()


def _limit_exceeded(message: str, limit: str, value: float) -> LimitExceededError:
    return LimitExceededError(message, metadata={"limit": limit, "value": f"{value:.12g}"})
