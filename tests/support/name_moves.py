"""Concurrent moves of a name, and whether they lost none."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from entropyd.contract.errors import ModelStateError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entropyd_server.store.model_store import ModelStore


def model_ids(count: int) -> list[str]:
    """Ids of models that need not exist."""
    return [f"{number:064x}" for number in range(1, count + 1)]


def moved_at_once(stores: Sequence[ModelStore], moves: int, *, expecting: bool) -> list[tuple[str, str]]:
    """Moves a name `moves` times on each store, one thread to a store; returns what succeeded, from and to.

    Each move is to an id of its own; with `expecting` from what was read before, else from whatever there is.
    """
    ids = model_ids(len(stores) * moves)

    async def move_all(number: int) -> list[tuple[str, str]]:
        names, made = stores[number].names, []
        for model_id in ids[number :: len(stores)]:
            # Another was first, or others were too often.
            with suppress(ModelStateError, UnavailableError):
                expected = await names.get("moved") if expecting else None
                made.append((await names.move("moved", model_id, expected), model_id))
        return made

    with ThreadPoolExecutor(len(stores)) as pool:
        made = pool.map(lambda number: asyncio.run(move_all(number)), range(len(stores)))
        return list(chain.from_iterable(made))


def are_one_chain(moves: list[tuple[str, str]], last: str) -> bool:
    """Whether each move began where another ended, the first one at no model and the last one at `last`."""
    following = dict(moves)
    at, count = "", 0
    while at in following:
        at, count = following[at], count + 1
    return len(following) == len(moves) == count and at == last
