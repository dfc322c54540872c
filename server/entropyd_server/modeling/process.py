"""One worker process, from spawn to reap: its pipes, log lines and end.

Invariants: both pipes are always read to their end, so that a worker never blocks on a full one; when `ended`
has returned, no zombie, task or open pipe is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import psutil

from entropyd_server.modeling.protocol import Frame, FrameError, read_blob

# One logger for all of `modeling`: operators know workers, not modules.
log = logging.getLogger("entropyd_server.modeling")

# Copying less than this takes less time than a thread needs to get the interpreter.
_INLINE_BYTES = 2**20


class ProcessEndedError(Exception):
    """The worker ended before it responded; the message says how, and nothing internal."""


class WorkerProcess:
    """A running worker; `spawn` makes one."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("a worker was spawned without pipes")
        self._process = process
        self._name = name
        self._requests = stdin
        self._responses: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._readers = {
            asyncio.create_task(self._read_frames(stdout)),
            asyncio.create_task(self._log_lines(stderr)),
        }

    @classmethod
    async def spawn(cls, arguments: Sequence[str], name: str) -> WorkerProcess:
        """Starts a worker; `name` is its name in the log.

        The kernel kills the worker at the end of the thread that starts it: the event loop's, or one that
        resumes its callbacks; see `worker`.

        Raises:
          OSError: If the system cannot start another process.
        """
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "entropyd_server.modeling.worker", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        log.info("worker %s started as process %d", name, process.pid)
        return cls(process, name)

    @property
    def resident_bytes(self) -> int:
        """Resident memory; 0 once the process has ended."""
        try:
            # Looked up each time, because the process may have ended before the first look-up.
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    async def receive(self) -> Frame:
        """Waits for the next frame.

        Raises:
          ProcessEndedError: If the worker ends first, or sends anything but frames and is killed for it.
        """
        frame = await self._responses.get()
        if frame is None:
            raise ProcessEndedError(await self.ended())
        return frame

    async def exchange(self, request: Frame) -> Frame:
        """Sends a request and waits for the response; one exchange at a time.

        Raises:
          ProcessEndedError: As `receive`.
        """
        try:
            small = sum(tensor.nbytes for tensor in request.tensors.values()) < _INLINE_BYTES
            self._requests.write(request.to_bytes() if small else await asyncio.to_thread(request.to_bytes))
            await self._requests.drain()
        except ConnectionError:
            self.kill()
        return await self.receive()

    def kill(self) -> None:
        """Ends the process at once; does nothing if it has ended."""
        # asyncio's own `kill` polls the process first, and if that reaps it, its exit status is lost.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> str:
        """Waits until the process has ended and its pipes are read to the end; returns how it ended."""
        code = await self._process.wait()
        # Not `gather`, which cancels the readers when the caller is cancelled.
        await asyncio.wait(self._readers)
        if code < 0:
            return f"was ended by signal {signal.Signals(-code).name}"
        return f"ended with exit status {code}"

    async def _read_frames(self, stdout: asyncio.StreamReader) -> None:
        try:
            while True:
                blob = await read_blob(stdout)
                small = len(blob) < _INLINE_BYTES
                frame = Frame.from_blob(blob) if small else await asyncio.to_thread(Frame.from_blob, blob)
                self._responses.put_nowait(frame)
        except asyncio.IncompleteReadError:
            pass
        except Exception as error:  # not a frame, or larger than free memory
            what = "broke the protocol" if isinstance(error, FrameError) else "cannot be read"
            log.exception("worker %s %s and is killed", self._name, what)
            self.kill()
            while await stdout.read(2**16):
                pass
        finally:
            self._responses.put_nowait(None)

    async def _log_lines(self, stderr: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stderr.readline()
            except ValueError:
                # asyncio drops a line above its buffer of 64 KiB.
                line = b"(a line too long to log)\n"
            except Exception:
                log.exception("the log lines of worker %s cannot be read, so it is killed", self._name)
                self.kill()
                return
            if not line:
                return
            log.warning("worker %s: %s", self._name, line.decode(errors="replace").rstrip())
