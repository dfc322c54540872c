"""Laws of listing models: every model once, in pages that are no larger than a message may be."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import obstore
import pytest

from entropyd import UniversalBatchedConfig, priors
from entropyd.v1 import model_pb2
from entropyd_server.limits import Limits
from entropyd_server.rpc.registry_service import RegistryService
from entropyd_server.store.model_store import ModelStore

KIB = 1024
NOBODY = cast("Any", None)


def listed(store: ModelStore, max_message_bytes: int) -> list[model_pb2.ListModelsResponse]:
    limits = Limits(max_message_bytes, max_model_bytes=KIB, max_build_seconds=1)
    service = RegistryService(
        store=store,
        models=NOBODY,
        quota=NOBODY,
        creator=NOBODY,
        importer=NOBODY,
        limits=limits,
        caller_of=NOBODY,
    )

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
