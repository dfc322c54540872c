"""Where coding work runs.

Owns the codec threads. It must not know what the work is. Invariant: the event loop never computes for longer
than a small request takes; larger work runs on a thread, where the kernels release the interpreter.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Handing work to a thread and back costs about as much as coding this many symbols.
INLINE_SYMBOLS = 8192


class CodecThreads:
    """Runs coding work on the event loop when it is small, else on one of `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="codec")

    async def run(self, symbols: int, work: Callable[[], T]) -> T:
        """Runs `work`, which costs about as much as coding `symbols` symbols."""
        if symbols <= INLINE_SYMBOLS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Waits for the work in hand."""
        self._pool.shutdown()
