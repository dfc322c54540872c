"""A store on S3 that loses answers, lists what is stale, and holds many models."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest

import entropyd
from entropyd_server.store.model_store import ModelStore
from tests.support.faulty_s3 import Faults, FaultyS3
from tests.support.name_moves import model_ids
from tests.support.s3_server import environment
from tests.support.sealed_objects import TABLES
from tests.support.stored_models import supplied

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path
    from typing import Any, TypeVar

    T = TypeVar("T")

FIRST, SECOND = model_ids(2)
LISTED = 1100  # more than S3 lists in one request


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    with FaultyS3("models") as running, mock.patch.dict(os.environ, environment(running.url)):
        yield running


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Of each test, one of its own."""
    return f"{tmp_path.name}/"


@pytest.fixture
def store(s3: FaultyS3, prefix: str) -> ModelStore:
    """Without faults yet."""
    s3.set(Faults())
    return ModelStore(f"s3://models/{prefix}")


def run(call: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(call)


def config(number: int = 0) -> entropyd.UniversalBatchedConfig:
    return supplied(number)


def test_the_call_that_stored_a_model_is_told_so_though_the_answer_was_lost(
    s3: FaultyS3, store: ModelStore
) -> None:
    s3.set(Faults(lost=1, kinds=("PUT",), times=1))
    _, created = run(store.create(config(), TABLES, {}))
    assert s3.requests.faults == {"lost": 1}
    assert created
    _, created = run(store.create(config(), TABLES, {}))
    assert not created


@pytest.mark.parametrize("expected", [None, ""])
def test_a_move_of_a_name_whose_answer_was_lost_is_made_and_told(
    s3: FaultyS3, store: ModelStore, expected: str | None
) -> None:
    s3.set(Faults(lost=1, kinds=("PUT",), times=1))
    assert run(store.names.move("stable", FIRST, expected)) == ""
    s3.set(Faults(lost=1, kinds=("PUT",), times=1))
    assert run(store.names.move("stable", SECOND, None if expected is None else FIRST)) == FIRST
    assert s3.requests.faults == {"lost": 1}
    assert run(store.names.get("stable")) == SECOND
    with pytest.raises(entropyd.ModelStateError, match="points at model"):
        run(store.names.move("stable", FIRST, FIRST))


def test_a_new_model_is_found_by_its_id_though_listings_lack_it(s3: FaultyS3, store: ModelStore) -> None:
    older, _ = run(store.create(config(0), TABLES, {}))
    s3.set(Faults(stale=True))
    newer, _ = run(store.create(config(1), TABLES, {}))
    run(store.names.move("newer", newer.config.model_id))
    assert run(store.list_ids(10)) == [older.config.model_id]
    assert run(store.names.page(10)) == ({}, "")
    assert run(store.load(newer.config.model_id)).tables is not None
    assert run(store.names.get("newer")) == newer.config.model_id
    run(store.delete(newer.config.model_id))
    with pytest.raises(entropyd.ModelNotFoundError):
        run(store.load(newer.config.model_id))


def test_a_read_whose_connection_is_cut_is_resumed(s3: FaultyS3, store: ModelStore) -> None:
    stored, _ = run(store.create(config(), TABLES, {}))
    s3.set(Faults(cut=1, kinds=("GET",), times=1))
    assert run(store.load(stored.config.model_id)).tables is not None
    assert s3.requests.faults == {"cut": 1}


def test_a_model_or_a_name_that_is_missing_costs_one_request(s3: FaultyS3, store: ModelStore) -> None:
    with pytest.raises(entropyd.ModelNotFoundError):
        run(store.load(FIRST))
    assert s3.requests.by_kind == {"GET": 1}
    assert run(store.names.get("missing")) == ""
    assert s3.requests.by_kind == {"GET": 2}


def test_pages_of_many_models_cost_a_request_each(s3: FaultyS3, store: ModelStore, prefix: str) -> None:
    stored, _ = run(store.create(config(), TABLES, {}))
    s3.fill("models", prefix, LISTED)
    s3.set(Faults())
    listed: list[str] = []
    pages = 0
    while page := run(store.list_ids(300, listed[-1] if listed else "")):
        listed += page
        pages += 1
    assert listed == [*(f"{number:064x}" for number in range(LISTED)), stored.config.model_id]
    assert s3.requests.by_kind["LIST"] == pages + 1  # the last of which finds nothing


def test_pages_of_a_store_that_lists_in_no_order_are_right(
    s3: FaultyS3, store: ModelStore, prefix: str
) -> None:
    s3.fill("models", prefix, LISTED)
    s3.set(Faults(backwards=True))
    numbers = [f"{number:064x}" for number in range(LISTED)]
    assert run(store.list_ids(300)) == numbers[:300]
    assert run(store.list_ids(300, numbers[299])) == numbers[300:600]
