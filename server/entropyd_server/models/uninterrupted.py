"""Shields steps from cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def uninterrupted(step: Coroutine[None, None, T]) -> T:
    """Awaits a step; a cancellation takes effect when the step has ended."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # marks it as retrieved; else asyncio logs it
        raise
