"""What ends or reloads a server, as events of its event loop: signals, or a caller in its process."""

from __future__ import annotations

import asyncio
import signal

from entropyd_server.vital import end_within


class Events:
    """The events of a server that shares its process; any thread may call the methods.

    Attributes:
      stop: The server drains and ends.
      hurry: It waits for no call any longer.
      reload: It reads its files again; cleared by the task that reloads.
    """

    def __init__(self) -> None:
        self.stop, self.hurry, self.reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def stop_within(self, seconds: float) -> None:
        """Sets `stop`; what else the process does has no time limit."""
        del seconds
        self._loop.call_soon_threadsafe(self.stop.set)

    def end(self) -> None:
        """Sets `stop` and `hurry`."""
        self._loop.call_soon_threadsafe(self.hurry.set)
        self._loop.call_soon_threadsafe(self.stop.set)


class Signals(Events):
    """Events that signals set: the first SIGTERM or SIGINT `stop`, the second `hurry`, SIGHUP `reload`.

    Args:
      end_seconds: After the first signal to stop, the kernel ends the process in so many seconds, even if the
        event loop is blocked.
      hurried_end_seconds: The same after the second.
    """

    def __init__(self, end_seconds: float, hurried_end_seconds: float) -> None:
        super().__init__()
        self._ends = [(hurried_end_seconds, self.hurry), (end_seconds, self.stop)]
        # The interpreter calls these handlers whatever the loop is blocked by; asyncio's own need the loop.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: self._loop.call_soon_threadsafe(self.reload.set))

    def stop_within(self, seconds: float) -> None:
        """Sets `stop` as a signal does; the kernel ends the process in so many seconds."""
        end_within(seconds)
        super().stop_within(seconds)

    def _stop(self, *_: object) -> None:
        seconds, event = self._ends.pop() if len(self._ends) > 1 else self._ends[0]
        end_within(seconds)
        self._loop.call_soon_threadsafe(event.set)
