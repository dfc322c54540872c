"""Lists the objects of a store page by page."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

import obstore
from obstore.store import LocalStore

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# As many as S3 lists in one request.
_CHUNK_OBJECTS = 1000


async def first_names(
    backend: ObjectStore, prefix: str, name_of: Callable[[str], str | None], count: int, after: str | None
) -> list[str]:
    """Returns the smallest `count` names of objects, in rising order.

    Object stores list in order, from where they are told to, so a page costs them a request or two, however
    many objects they hold. Folders list in no order and are read in full, and so is a store that turns out to
    list in none, as S3's directory buckets do.

    Args:
      backend: Where the objects are.
      prefix: What their paths begin with.
      name_of: Gives the name of a path, in whose order names are too; None for one that is left out.
      count: Most names.
      after: The path that all of theirs are above; None for all.
    """
    may_be_sorted = not isinstance(backend, LocalStore)
    paths: list[str] = []
    names: list[str] = []
    async for page in obstore.list(backend, prefix, offset=after, chunk_size=_CHUNK_OBJECTS):
        found = [meta["path"] for meta in page]
        may_be_sorted = may_be_sorted and [*paths[-1:], *found] == sorted([*paths[-1:], *found])
        paths = found
        names += [name for path in found if (name := name_of(path)) is not None]
        if may_be_sorted and len(names) >= count:
            break
    return heapq.nsmallest(count, names)
