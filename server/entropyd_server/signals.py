"""The signals that a server answers, as events of its event loop."""

from __future__ import annotations

import asyncio
import signal

from entropyd_server.vital import end_within


class Signals:
    """Events that signals set.

    Attributes:
      stop: Set by the first SIGTERM or SIGINT.
      hurry: Set by the second.
      reload: Set by SIGHUP; cleared by the task that reloads.

    Args:
      end_seconds: After the first signal to stop, the kernel ends the process in so many seconds, even if the
        event loop is blocked.
      hurried_end_seconds: The same after the second.
    """

    def __init__(self, end_seconds: float, hurried_end_seconds: float) -> None:
        self.stop, self.hurry, self.reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._ends = [(hurried_end_seconds, self.hurry), (end_seconds, self.stop)]
        self._loop = asyncio.get_running_loop()
        # The interpreter calls these handlers whatever the loop is blocked by; asyncio's own need the loop.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: self._loop.call_soon_threadsafe(self.reload.set))

    def stop_within(self, seconds: float) -> None:
        """Sets `stop` as a signal does, on any thread; the kernel ends the process in so many seconds."""
        end_within(seconds)
        self._loop.call_soon_threadsafe(self.stop.set)

    def _stop(self, *_: object) -> None:
        seconds, event = self._ends.pop() if len(self._ends) > 1 else self._ends[0]
        end_within(seconds)
        self._loop.call_soon_threadsafe(event.set)
