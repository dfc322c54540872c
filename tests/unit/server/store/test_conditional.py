"""Conditional writes: one of several writers is told that its object is in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from entropyd_server.store.conditional import put_if

if TYPE_CHECKING:
    from pathlib import Path

    from obstore import UpdateVersion
    from obstore.store import ObjectStore


@pytest.fixture(params=["memory", "folder"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path)


def test_one_of_many_writers_makes_an_object(backend: ObjectStore) -> None:
    blobs = [f"{number}".encode() for number in range(20)]

    async def write_all() -> list[bool]:
        return await asyncio.gather(*(put_if(backend, "path", blob, "create") for blob in blobs))

    made = asyncio.run(write_all())
    assert sum(made) == 1
    assert bytes(obstore.get(backend, "path").bytes()) == blobs[made.index(True)]


def test_an_object_that_has_changed_is_not_replaced() -> None:
    backend = MemoryStore()
    assert asyncio.run(put_if(backend, "path", b"same", "create"))
    e_tag = obstore.head(backend, "path")["e_tag"]
    assert e_tag is not None
    version: UpdateVersion = {"e_tag": e_tag}
    assert asyncio.run(put_if(backend, "path", b"first", version))
    assert not asyncio.run(put_if(backend, "path", b"second", version))
    assert bytes(obstore.get(backend, "path").bytes()) == b"first"
