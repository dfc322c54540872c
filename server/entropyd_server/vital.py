"""Ends the process if a thread or task fails without which a server does not work.

Invariant: once one of them raises, the process ends within seconds, with a status other than 0, whatever
state the rest of it is in.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

log = logging.getLogger(__name__)

# The kernel's timers take no infinity: 30 years instead.
_LONGEST_S = 1e9


class Guard:
    """See Vital.guard. It keeps no state of a block, so any number of blocks may share one."""

    __slots__ = ("_name", "_vital")

    def __init__(self, vital: Vital, name: str) -> None:
        self._vital = vital
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._vital.fail(self._name, error)
        return True


class Vital:
    """The threads and tasks of one server that must run as long as it serves.

    Attributes:
      failed: Whether one of them has raised.

    Args:
      end: Ends the server; called on the thread that raised, for each that raises.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self.failed = False

    def fail(self, name: str, error: BaseException) -> None:
        """Logs that something vital has failed, and ends the server."""
        self.failed = True
        # Before logging and again after it: logging may fail too if memory has run out.
        self._end()
        try:
            log.critical("%s failed, so the server ends", name, exc_info=error)
        finally:
            self._end()

    def guard(self, name: str) -> Guard:
        """Ends the server if a `with` block of it raises."""
        return Guard(self, name)

    def thread(self, name: str, run: Callable[[], object]) -> Thread:
        """A daemon thread, not started yet, that ends the server if `run` raises."""

        def guarded() -> None:
            with self.guard(f"thread {name}"):
                run()

        return Thread(target=guarded, name=name, daemon=True)

    def task(self, name: str, work: Coroutine[None, None, object]) -> asyncio.Task[object]:
        """A task that ends the server if it raises; it may be cancelled."""
        return self.watch(name, asyncio.create_task(work))

    def watch(self, name: str, task: asyncio.Task[object]) -> asyncio.Task[object]:
        """Guards a task that runs already; see `task`."""

        def ended(task: asyncio.Task[object]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.fail(f"task {name}", error)

        task.add_done_callback(ended)
        return task


def prepare_end() -> None:
    """Makes the process write the stacks of all threads if `end_within` ends it by force."""
    with contextlib.suppress(ValueError, OSError, RuntimeError):  # standard error may be closed
        faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)


def end_within(seconds: float) -> None:
    """Makes the kernel end this process by SIGALRM after a time, unless it is set to end sooner.

    A kernel timer needs no thread, memory or event loop, any of which may be missing by then.
    """
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if not left or seconds < left:
        signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST_S))
