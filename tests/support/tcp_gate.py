"""A TCP proxy that can be slow, stop passing bytes on, and cut or forget its connections, as networks do.

Invariant: bytes keep their order, and only those of cut and forgotten connections are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Gate:
    """Passes connections on to an address.

    Args:
      behind: Host and port to pass them on to.

    Attributes:
      address: Host and port that it listens on.
      delay_s: How long every part of a response is held back, in seconds.
      answered_bytes: Bytes that went back to those who connected.
      cuts: How many connections `cut` has still to end.
    """

    def __init__(self, behind: tuple[str, int]) -> None:
        self._behind = behind
        self.delay_s = 0.0
        self.answered_bytes = 0
        self.cuts = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.address: tuple[str, int] = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        """Connections are accepted and requests taken, and nothing is answered."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def open(self) -> None:
        """Everything passes again, what was held back first."""
        self._loop.call_soon_threadsafe(self._open.set)

    def cut(self, times: int, after_bytes: int) -> None:
        """Ends the connection over which that many more bytes of responses would have gone; `times` times."""
        self._cut_at, self._cut_after_bytes = self.answered_bytes + after_bytes, after_bytes
        self.cuts = times

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._passing)

    def forget(self) -> None:
        """What is sent over the connections that there are vanishes from now on; new ones work."""
        self._loop.call_soon_threadsafe(lambda: self._forgotten.update(self._passing))

    async def _listen(self) -> tuple[str, int]:
        self._open = asyncio.Event()
        self._open.set()
        self._passing: set[asyncio.Task[None]] = set()
        self._forgotten: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            behind_reader, behind_writer = await asyncio.open_connection(*self._behind)
            with contextlib.closing(behind_writer):
                await asyncio.gather(
                    self._pass(task, reader, behind_writer, answers=False),
                    self._pass(task, behind_reader, writer, answers=True),
                )
        except OSError:
            pass  # either end left
        except asyncio.CancelledError:
            writer.transport.abort()  # it is cut, or the gate closes
        finally:
            writer.close()
            self._passing.discard(task)

    async def _pass(
        self,
        connection: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        while piece := await reader.read(65536):
            if connection in self._forgotten:
                continue
            if answers:
                await asyncio.sleep(self.delay_s)
                await self._open.wait()
                if self.cuts and self.answered_bytes + len(piece) > self._cut_at:
                    self._cut_at = self.answered_bytes + self._cut_after_bytes
                    self.cuts -= 1
                    connection.cancel()
                    continue
                self.answered_bytes += len(piece)
            writer.write(piece)
            await writer.drain()
        if connection in self._forgotten:
            return
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _close(self) -> None:
        # asyncio loses a connection that is being accepted when its server closes.
        while len(asyncio.all_tasks()) > 1:
            for task in self._passing:
                task.cancel()
            await asyncio.sleep(0)
        self._server.close()
        await self._server.wait_closed()
