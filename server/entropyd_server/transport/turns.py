"""An event loop whose thread can be stood in for by other threads, one at a time.

Invariants: the loop and a thread in a turn never run together; what becomes ready in a turn runs in that
turn, in order; a thread that ends a turn gets its next one after all that are waiting.

asyncio lets other threads leave a callback and wake the loop through a socket. Two switches of threads cost
more than coding a small array. In a turn, a thread runs the callbacks itself.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")

# Most callbacks of a turn, so that one that schedules itself again does not block the others.
_MOST_CALLBACKS = 500


class TurnLoop(asyncio.SelectorEventLoop):
    """An event loop that runs in a turn of its own, except while it waits.

    Attributes:
      turn: A context manager in which another thread may do what a callback of the loop may.
    """

    def __init__(self) -> None:
        lock = _FairLock()
        self.turn = _Turn(self, lock)
        self._lock = lock
        super().__init__(_Selector(lock))
        # In debug mode, asyncio refuses calls from a thread that is not the loop's.
        self.set_debug(False)

    def run_forever(self) -> None:
        self._lock.acquire()
        try:
            super().run_forever()
        finally:
            self._lock.release()

    def call_at(  # type: ignore[override]  # the types of `args` are as in the base class
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        if self.turn.taken:
            self.wake()  # it waits for the timers that it knew of
        return handle

    def stop(self) -> None:
        super().stop()
        if self.turn.taken:
            self.wake()

    def resume(self, callback: Callable[[], None]) -> None:
        """Runs a callback, and what becomes ready by it, in a turn on this thread."""
        with self.turn:
            callback()

    def run_ready(self) -> None:
        """Runs what is ready, in another thread's turn."""
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]  # the base class's, in all versions
        for _ in range(_MOST_CALLBACKS):
            if not ready:
                return
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - as the base class does
        self.wake()

    def wake(self) -> None:
        """Makes the loop look for work again."""
        self.call_soon_threadsafe(lambda: None)


def current_loop() -> TurnLoop:
    """The running loop.

    Raises:
      TypeError: If it is not a TurnLoop.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, TurnLoop):
        raise TypeError(f"this runs on a TurnLoop, not on {loop!r}")
    return loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a TurnLoop, as `asyncio.run` does on its loop."""
    loop = TurnLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_end_rest(loop))
        loop.close()


class _FairLock:
    """A lock that goes to a waiting thread rather than back to the one that releases it.

    The thread that is next in line holds `_next`; the others wait for that.
    """

    def __init__(self) -> None:
        self._next = Lock()
        self._lock = Lock()
        self.release = self._lock.release

    def acquire(self) -> None:
        with self._next:
            self._lock.acquire()


class _Turn:
    """A turn of a thread that is not the loop's."""

    def __init__(self, loop: TurnLoop, lock: _FairLock) -> None:
        self._loop = loop
        self._lock = lock
        self.taken = False

    def __enter__(self) -> None:
        self._lock.acquire()
        self.taken = True
        asyncio._set_running_loop(self._loop)  # noqa: SLF001 - public for those who make event loops

    def __exit__(self, *exception: object) -> None:
        try:
            self._loop.run_ready()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
            self.taken = False
            self._lock.release()


class _Selector(selectors.DefaultSelector):
    """Ends the loop's turn while it waits."""

    def __init__(self, lock: _FairLock) -> None:
        super().__init__()
        self._turns = lock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns.release()
        try:
            super().select(timeout)
        finally:
            self._turns.acquire()
        # Again, in this turn: descriptors that were ready outside of it may have been closed or reused since.
        return super().select(0)


async def _end_rest(loop: TurnLoop) -> None:
    """Ends the tasks that are left, and asyncio's own."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
