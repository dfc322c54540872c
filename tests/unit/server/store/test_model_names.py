"""Laws of names in the store: a name points where the last move left it, and no move is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import obstore
import pytest

from entropyd import ModelStateError, UnavailableError
from entropyd_server.store.model_store import ModelStore
from tests.support.name_moves import are_one_chain, model_ids, moved_at_once

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from typing import TypeVar

    T = TypeVar("T")

ONE, TWO, THREE = model_ids(3)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    return ModelStore("memory:///" if request.param == "memory" else str(tmp_path / "store"))


def test_a_name_points_where_it_was_moved_to_until_it_is_removed(store: ModelStore) -> None:
    for model_id, before in [(ONE, ""), (TWO, ONE), (TWO, TWO), ("", TWO), ("", ""), (THREE, "")]:
        assert run(store.names.move("faces", model_id)) == before
        assert run(store.names.get("faces")) == model_id
    assert run(store.names.get("places")) == ""


@pytest.mark.parametrize("removed", [False, True])
def test_a_name_moves_only_from_what_is_expected(store: ModelStore, *, removed: bool) -> None:
    if removed:
        run(store.names.move("faces", TWO))
        run(store.names.move("faces", ""))
    for model_id, expected in [(ONE, ""), (TWO, ONE), ("", TWO), (ONE, "")]:
        before = run(store.names.get("faces"))
        for wrong in {"", ONE, TWO, THREE} - {before}:
            with pytest.raises(ModelStateError, match="the name faces points at") as caught:
                run(store.names.move("faces", model_id, wrong))
            assert caught.value.reason == "NAME_MOVED"
            assert caught.value.metadata == {"name": "faces", "model_id": before}
        assert run(store.names.get("faces")) == before
        assert run(store.names.move("faces", model_id, expected)) == before


@pytest.mark.parametrize("expecting", [False, True])
def test_concurrent_moves_lose_none(tmp_path: Path, *, expecting: bool) -> None:
    # Each with locks of its own, as processes have.
    stores = [ModelStore(str(tmp_path)) for _ in range(4)]
    moves = moved_at_once(stores, 10, expecting=expecting)
    assert moves
    assert are_one_chain(moves, run(stores[0].names.get("moved")))


def test_concurrent_moves_in_memory_lose_none() -> None:
    store = ModelStore("memory:///")
    moves = moved_at_once([store] * 4, 25, expecting=False)
    assert are_one_chain(moves, run(store.names.get("moved")))


def test_pages_hold_every_name_once_in_alphabetical_order(store: ModelStore) -> None:
    names = ["v-10", "v-2", "0.9", "w", "v_1", "x.y-z"]
    for name in [*names, "removed", "x-removed"]:
        run(store.names.move(name, ONE))
    for name in ("removed", "x-removed"):
        run(store.names.move(name, ""))
    for page_size in (1, 3, 8, 100):
        held, after = run(store.names.page(page_size))
        while after:
            page, after = run(store.names.page(page_size, after))
            assert not page.keys() & held.keys()
            held |= page
        assert held == dict.fromkeys(sorted(names), ONE)
        assert list(held) == sorted(names)
    assert run(store.list_ids(10)) == []


@pytest.mark.parametrize("held", [b"hello", ONE.encode() + b"\n", b"x" * 64, bytes(100_000)])
def test_an_object_that_holds_no_id_is_a_free_name(store: ModelStore, held: bytes) -> None:
    obstore.put(store._backend, "names/faces", held)
    assert run(store.names.get("faces")) == ""
    assert run(store.names.page(10)) == ({}, "")
    assert run(store.names.move("faces", ONE, "")) == ""
    assert run(store.names.get("faces")) == ONE


def test_what_is_no_name_is_not_listed(store: ModelStore) -> None:
    for name in ("Faces", "faces.md/x", "abcdef", "f aces"):
        obstore.put(store._backend, f"names/{name}", ONE.encode())
    assert run(store.names.page(10)) == ({}, "")


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    store = ModelStore(str(tmp_path / "store"))
    (tmp_path / "store").rmdir()
    for call in (store.names.get("faces"), store.names.move("faces", ONE), store.names.page(10)):
        with pytest.raises(UnavailableError, match="folder is gone"):
            run(call)
    assert not (tmp_path / "store").exists()
