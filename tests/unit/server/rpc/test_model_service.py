"""Laws of models as objects: every one is listed once, a deleted one is forgotten, and sizes have limits."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import obstore
import pytest

from entropyd import LimitExceededError, ModelNotFoundError, UniversalBatchedConfig, priors
from entropyd.v1 import model_pb2
from entropyd_server.limits import Limits
from entropyd_server.metrics import Metrics
from entropyd_server.models.cache import ModelCache
from entropyd_server.rpc.registry_service import RegistryService
from entropyd_server.store.model_store import ModelStore, StoredModel
from tests.support.sealed_objects import TABLES, two_row_config

KIB = 1024
NOBODY = cast("Any", None)


def service_of(store: ModelStore, max_message_bytes: int = 10 * KIB) -> RegistryService:
    return RegistryService(
        store=store,
        models=ModelCache(store, KIB * KIB, Metrics("test")),
        quota=NOBODY,
        creator=NOBODY,
        importer=NOBODY,
        limits=Limits(max_message_bytes, max_model_bytes=KIB, max_build_seconds=1),
        caller_of=NOBODY,
    )


def listed(store: ModelStore, max_message_bytes: int) -> list[model_pb2.ListModelsResponse]:
    service = service_of(store, max_message_bytes)

    async def pages() -> list[model_pb2.ListModelsResponse]:
        found = [await service.ListModels(model_pb2.ListModelsRequest(), NOBODY)]
        while token := found[-1].next_page_token:
            request = model_pb2.ListModelsRequest(page_token=token)
            found.append(await service.ListModels(request, NOBODY))
        return found

    return asyncio.run(pages())


@pytest.mark.parametrize(
    ("max_message_bytes", "models"), [(KIB, [1] * 12), (30 * KIB, [3] * 4), (300 * KIB, [12])]
)
def test_a_page_holds_what_fits_into_a_message_and_at_least_one_model(
    max_message_bytes: int, models: list[int]
) -> None:
    store = ModelStore("memory:///")
    for number in range(12):
        loc = np.full(2 * KIB, number, np.float32)
        prior = priors.NoisyNormal(loc, np.float32(1))
        config = UniversalBatchedConfig(prior=prior, coding_rank=1, compression=False)
        asyncio.run(store.create(config, None, {}))
    ids = asyncio.run(store.list_ids(100))
    damaged = ["0" * 64, *(ids[5][:-1] + digit for digit in "0f"), "f" * 64]
    for model_id in damaged:
        if model_id not in ids:
            obstore.put(store._backend, f"models/{model_id}.safetensors", b"damaged")
    pages = listed(store, max_message_bytes)
    assert [len(page.models) for page in pages if page.models] == models
    assert [model.model_id for page in pages for model in page.models] == ids
    told = [model_id for page in pages for model_id in page.damaged_model_ids]
    assert told == sorted(set(damaged) - set(ids))
    assert all(page.ByteSize() <= max_message_bytes + KIB for page in pages if len(page.models) > 1)


def test_a_store_without_models_has_one_empty_page() -> None:
    assert listed(ModelStore("memory:///"), KIB) == [model_pb2.ListModelsResponse()]


@pytest.mark.parametrize(
    ("method", "request_type", "fields"),
    [
        ("DeleteModel", model_pb2.DeleteModelRequest, {}),
        ("SetModelName", model_pb2.SetModelNameRequest, {"name": "n"}),
    ],
)
def test_whoever_is_told_to_delete_or_to_name_a_model_forgets_one_that_is_not_stored(
    method: str, request_type: Any, fields: dict[str, str]
) -> None:
    async def scenario() -> None:
        service, model_id = service_of(ModelStore("memory:///")), two_row_config().model_id
        await service.store.create(two_row_config(), TABLES, {})
        await service.models.codec(model_id)
        # As another replica does, or this one where the answer of the store was lost.
        await service.store.delete(model_id)
        with pytest.raises(ModelNotFoundError):
            await getattr(service, method)(request_type(model_id=model_id, **fields), NOBODY)
        with pytest.raises(ModelNotFoundError):
            await service.models.codec(model_id)

    asyncio.run(scenario())


def test_a_model_that_no_message_holds_is_not_exported() -> None:
    async def scenario() -> None:
        store, model_id = ModelStore("memory:///"), two_row_config().model_id
        await store.create(two_row_config(), TABLES, {})
        size, request = len(await store.read(model_id)), model_pb2.ExportModelRequest(model_id=model_id)
        exported = await service_of(store, size).ExportModel(request, NOBODY)
        assert exported.object == await store.read(model_id)
        with pytest.raises(LimitExceededError, match=f"object of {size} bytes exceeds") as caught:
            await service_of(store, size - 1).ExportModel(request, NOBODY)
        assert caught.value.metadata == {"limit": "max_message_bytes", "value": str(size - 1)}

    asyncio.run(scenario())


def test_listings_load_few_models_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store, loading, most = ModelStore("memory:///"), 0, 0
    load = store.load

    async def counted(model_id: str) -> StoredModel:
        nonlocal loading, most
        loading += 1
        most = max(most, loading)
        try:
            return await load(model_id)
        finally:
            loading -= 1

    async def scenario() -> None:
        for number in range(12):
            config = UniversalBatchedConfig(
                prior=priors.NoisyNormal(float(number), 1.0), coding_rank=1, compression=False
            )
            await store.create(config, None, {})
        monkeypatch.setattr(store, "load", counted)
        service = service_of(store)
        request = model_pb2.ListModelsRequest()
        pages = await asyncio.gather(*(service.ListModels(request, NOBODY) for _ in range(3)))
        assert [len(page.models) for page in pages] == [12] * 3

    asyncio.run(scenario())
    assert most == 2
