"""Laws of the model store, on every backend that needs no network: what is stored never changes, and damage
is an error.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entropyd import DataLossError, ModelNotFoundError, UnavailableError, UniversalBatchedConfig, priors
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_store import ModelStore, StoredModel
from tests.support.sealed_objects import sealed, two_row_config

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from typing import TypeVar

    T = TypeVar("T")

TABLES = CodingTables.parse([-4, 0, 3, 16, -4, 0, 1, 2, 16], [-1, 5])
OTHER_TABLES = CodingTables.parse([-4, 0, 4, 16, -4, 0, 1, 2, 16], [-1, 5])
BUILT_WITH = {"tensorflow": "2.14.1", "entropyd": "0.1.0"}
MANY = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def config(**fields: Any) -> UniversalBatchedConfig:
    defaults: dict[str, Any] = {"prior": priors.NoisyNormal(0.0, [1.0, 2.0]), "coding_rank": 1}
    return UniversalBatchedConfig(**{**defaults, "num_noise_levels": 1, "range_coder_precision": 4, **fields})


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    return ModelStore("memory:///" if request.param == "memory" else (tmp_path / "a" / "store").as_uri())


def key(model_id: str) -> str:
    return f"models/{model_id}.safetensors"


def state(model: StoredModel) -> tuple[Any, ...]:
    digest = None if model.tables is None else model.tables.digest
    return model.config.model_id, digest, dict(model.built_with), model.created_at


def test_what_was_created_is_loaded(store: ModelStore) -> None:
    stored, created = run(store.create(config(), TABLES, BUILT_WITH))
    assert created
    assert stored.config == config()
    assert stored.tables is not None
    assert stored.tables.digest == TABLES.digest
    assert stored.built_with == BUILT_WITH
    assert state(run(store.load(config().model_id))) == state(stored)


def test_a_model_without_compression_is_stored_without_tables(store: ModelStore) -> None:
    bare = config(compression=False)
    stored, created = run(store.create(bare, None, {}))
    assert created
    assert stored.tables is None
    assert run(store.load(bare.model_id)).config == bare


def test_the_first_tables_win(store: ModelStore) -> None:
    first, _ = run(store.create(config(), TABLES, BUILT_WITH))
    second, created = run(store.create(config(), OTHER_TABLES, {"tensorflow": "3"}))
    assert not created
    assert state(second) == state(first)


def test_of_concurrent_creates_one_stores_and_all_get_the_same(store: ModelStore) -> None:
    async def create_all() -> list[tuple[StoredModel, bool]]:
        candidates = [TABLES, OTHER_TABLES] * 4
        return await asyncio.gather(*(store.create(config(), tables, {}) for tables in candidates))

    answers = run(create_all())
    assert [created for _, created in answers].count(True) == 1
    assert len({state(stored)[:2] for stored, _ in answers}) == 1
    assert run(store.list_ids(10)) == [config().model_id]


def test_a_deleted_model_is_gone_and_can_be_created_anew(store: ModelStore) -> None:
    run(store.create(config(), TABLES, {}))
    run(store.delete(config().model_id))
    assert run(store.list_ids(10)) == []
    with pytest.raises(ModelNotFoundError):
        run(store.load(config().model_id))
    stored, created = run(store.create(config(), OTHER_TABLES, {}))
    assert created
    assert stored.tables is not None
    assert stored.tables.digest == OTHER_TABLES.digest


def test_an_unknown_model_is_not_found_by_any_method(store: ModelStore) -> None:
    run(store.create(config(), TABLES, {}))
    unknown = "0" * 64
    for lookup in (store.load, store.delete):
        with pytest.raises(ModelNotFoundError) as caught:
            run(lookup(unknown))
        assert caught.value.metadata == {"model_id": unknown}
    assert run(store.list_ids(10)) == [config().model_id]


def test_an_empty_store_answers(store: ModelStore) -> None:
    run(store.probe())
    assert run(store.list_ids(10)) == []


def test_pages_hold_every_id_once_in_rising_order(store: ModelStore) -> None:
    configs = [config(compression=False, coding_rank=rank) for rank in range(1, 8)]
    for each in configs:
        run(store.create(each, None, {}))
    expected = sorted(each.model_id for each in configs)
    for page_size in (1, 2, 3, 7, 8):
        listed: list[str] = []
        while page := run(store.list_ids(page_size, listed[-1] if listed else "")):
            assert len(page) <= page_size
            listed += page
        assert listed == expected


def test_what_is_no_model_is_not_listed(store: ModelStore) -> None:
    for name in (
        "readme.txt",
        "readme.safetensors",
        f"{'F' * 64}.safetensors",
        f"more/{'f' * 64}.safetensors",
    ):
        obstore.put(store._backend, f"models/{name}", b"hello")
    assert run(store.list_ids(10)) == []


def test_a_changed_byte_is_data_loss_or_changes_nothing(store: ModelStore) -> None:
    stored, _ = run(store.create(config(), TABLES, BUILT_WITH))
    model_id = stored.config.model_id
    content = bytes(obstore.get(store._backend, key(model_id)).bytes())

    async def load_damaged() -> int:
        losses = 0
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            await obstore.put_async(store._backend, key(model_id), bytes(damaged))
            try:
                model = await store.load(model_id)
            except DataLossError:
                losses += 1
                continue
            assert state(model)[:3] == state(stored)[:3]
        return losses

    assert run(load_damaged()) > 0.9 * len(content)


@MANY
@given(data=st.data())
def test_any_replaced_byte_is_data_loss_or_changes_nothing(store: ModelStore, data: st.DataObject) -> None:
    model_id = config().model_id
    if run(store.list_ids(1)):
        run(store.delete(model_id))
    stored, _ = run(store.create(config(), TABLES, BUILT_WITH))
    content = bytearray(obstore.get(store._backend, key(model_id)).bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    obstore.put(store._backend, key(model_id), bytes(content))
    try:
        model = run(store.load(model_id))
    except DataLossError:
        return
    assert state(model)[:3] == state(stored)[:3]


def test_an_object_larger_than_a_model_can_be_is_not_read(tmp_path: Path) -> None:
    store = ModelStore(tmp_path.as_uri())
    model_id = "f" * 64
    path = tmp_path / key(model_id)
    path.parent.mkdir()
    with path.open("wb") as sparse:
        sparse.truncate(2**42)  # more than there is memory
    for call in (store.load(model_id), store.read(model_id)):
        with pytest.raises(DataLossError, match=f"has {2**42} bytes; expected at most"):
            run(call)


def test_a_store_reads_what_is_as_large_as_it_may_be(tmp_path: Path) -> None:
    run(ModelStore(tmp_path.as_uri()).create(config(), TABLES, BUILT_WITH))
    size = (tmp_path / key(config().model_id)).stat().st_size
    assert run(ModelStore(tmp_path.as_uri(), max_object_bytes=size).load(config().model_id))
    with pytest.raises(DataLossError):
        run(ModelStore(tmp_path.as_uri(), max_object_bytes=size - 1).load(config().model_id))


def test_what_is_sealed_but_has_fields_of_wrong_types_is_data_loss(store: ModelStore) -> None:
    model_id = two_row_config().model_id
    for wrong in ("7", '{"tensorflow": 2}'):
        obstore.put(store._backend, key(model_id), sealed({"built_with": wrong}))
        with pytest.raises(DataLossError):
            run(store.load(model_id))


def test_every_truncation_is_data_loss(store: ModelStore) -> None:
    run(store.create(config(), TABLES, BUILT_WITH))
    model_id = config().model_id
    content = bytes(obstore.get(store._backend, key(model_id)).bytes())

    async def load_cut() -> None:
        for length in [*range(0, len(content), 7), len(content) - 1]:
            await obstore.put_async(store._backend, key(model_id), content[:length])
            with pytest.raises(DataLossError):
                await store.load(model_id)

    run(load_cut())


def test_a_model_stored_under_another_id_is_data_loss(store: ModelStore) -> None:
    run(store.create(config(), TABLES, {}))
    content = obstore.get(store._backend, key(config().model_id)).bytes()
    obstore.put(store._backend, key("f" * 64), bytes(content))
    with pytest.raises(DataLossError):
        run(store.load("f" * 64))


def test_a_damaged_model_is_named_and_not_created_over(store: ModelStore) -> None:
    model_id = config().model_id
    obstore.put(store._backend, key(model_id), b"damaged")
    for call in (store.create(config(), TABLES, {}), store.load(model_id)):
        with pytest.raises(DataLossError) as caught:
            run(call)
        assert caught.value.metadata == {"model_id": model_id}


def test_what_a_store_answers_counts_as_ok_also_that_there_is_no_such_model(store: ModelStore) -> None:
    assert set(store.operations.values()) == {0}
    run(store.create(config(), TABLES, BUILT_WITH))
    run(store.list_ids(10))
    run(store.delete(config().model_id))
    for call in (store.load(config().model_id), store.delete(config().model_id)):
        with pytest.raises(ModelNotFoundError):
            run(call)
    counted = {pair: count for pair, count in store.operations.items() if count}
    assert counted == {("read", "ok"): 2, ("write", "ok"): 1, ("list", "ok"): 1, ("delete", "ok"): 2}


def test_an_object_is_a_safetensors_file_with_the_documented_metadata(store: ModelStore) -> None:
    run(store.create(config(), TABLES, BUILT_WITH))
    content = bytes(obstore.get(store._backend, key(config().model_id)).bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.pop("__metadata__")
    assert sorted(header) == ["cdf", "cdf_offset"]
    assert metadata["entropyd.config"] == config().canonical_json.decode()
    assert metadata["entropyd.tables_digest"] == TABLES.digest.hex()
    assert json.loads(metadata["entropyd.built_with"]) == BUILT_WITH


def test_a_store_that_cannot_be_read_is_unavailable_and_keeps_its_paths_to_itself(tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    store = ModelStore(folder.as_uri())
    folder.rmdir()
    folder.write_text("a file where the folder was")
    model_id = config().model_id
    for call in (
        store.probe(),
        store.create(config(), TABLES, {}),
        store.load(model_id),
        store.list_ids(10),
        store.delete(model_id),
    ):
        with pytest.raises(UnavailableError) as caught:
            run(call)
        assert caught.value.reason == "STORE_UNAVAILABLE"
        assert caught.value.retry_after_s is not None
        assert "secret" not in f"{caught.value} {caught.value.metadata}"


def test_two_stores_on_one_folder_hold_the_same_models(tmp_path: Path) -> None:
    one, other = (ModelStore(tmp_path.as_uri()) for _ in range(2))
    stored, _ = run(one.create(config(), TABLES, BUILT_WITH))
    assert state(run(other.load(stored.config.model_id))) == state(stored)
    assert run(other.create(config(), OTHER_TABLES, {}))[1] is False
