"""Pages of names: they are the smallest, in order, and together all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from entropyd_server.store.listing import first_names

if TYPE_CHECKING:
    from pathlib import Path

    from obstore.store import ObjectStore

OBJECTS = 30


@pytest.fixture(params=["memory", "folder"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    made: ObjectStore = MemoryStore() if request.param == "memory" else LocalStore(tmp_path)
    for number in range(OBJECTS):
        obstore.put(made, f"in/{number * 7 % OBJECTS:02}", b"")
    obstore.put(made, "in/left-out", b"")
    obstore.put(made, "out/00", b"")
    return made


@pytest.mark.parametrize("count", [1, 7, OBJECTS, OBJECTS + 1])
def test_pages_are_in_order_and_together_all(backend: ObjectStore, count: int) -> None:
    def name_of(path: str) -> str | None:
        name = path.removeprefix("in/")
        return name if name.isdigit() else None

    listed: list[str] = []
    while True:
        after = f"in/{listed[-1]}" if listed else None
        page = asyncio.run(first_names(backend, "in/", name_of, count, after))
        if not page:
            break
        assert len(page) <= count
        listed += page
    assert listed == [f"{number:02}" for number in range(OBJECTS)]
