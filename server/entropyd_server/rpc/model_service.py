"""ModelService: creates, describes, perturbs and fits models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import NamedTuple

from entropyd.contract.errors import DataLossError, ModelNotFoundError
from entropyd.contract.wire import config_from_message, tensor_to_message
from entropyd.v1 import model_pb2, model_pb2_grpc, types_pb2
from entropyd_server.limits import Limits
from entropyd_server.modeling.fitter import Fitter
from entropyd_server.modeling.perturber import Perturber
from entropyd_server.models.cache import ModelCache
from entropyd_server.models.creation import ModelCreator
from entropyd_server.models.importing import ModelImporter
from entropyd_server.models.model_id import checked_model_id
from entropyd_server.models.quota import ModelQuota
from entropyd_server.models.weights import weights_of, with_weights
from entropyd_server.rpc.requests.fit import read_task
from entropyd_server.rpc.requests.perturb import nothing_perturbed, parse_perturb, render_perturbed
from entropyd_server.rpc.requests.registry import parse_page, parse_weights, render_model
from entropyd_server.store.model_store import ModelStore, StoredModel
from entropyd_server.transport.call import Call

# Objects of a page that are read concurrently.
_PAGE_READS = 8


class ModelCaller(NamedTuple):
    """Who makes a call.

    Attributes:
      name: Whose quota a new model counts against.
      turn_key: Callers of one key take turns as one where models are built or fitted.
      is_admin: Whether the caller may do everything.
    """

    name: str
    turn_key: str
    is_admin: bool


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """Serves the models of one store.

    Args:
      caller_of: Says who makes a call, by its context.
    """

    def __init__(
        self,
        *,
        store: ModelStore,
        models: ModelCache,
        quota: ModelQuota,
        creator: ModelCreator,
        importer: ModelImporter,
        perturber: Perturber,
        fitter: Fitter,
        limits: Limits,
        caller_of: Callable[[Call], ModelCaller],
    ) -> None:
        self._store = store
        self._models = models
        self._quota = quota
        self._creator = creator
        self._importer = importer
        self._perturber = perturber
        self._fitter = fitter
        self._limits = limits
        self._caller_of = caller_of

    async def CreateModel(
        self, request: model_pb2.CreateModelRequest, context: Call
    ) -> model_pb2.CreateModelResponse:
        """See model.proto."""
        config = await asyncio.to_thread(config_from_message, request.config)
        caller = self._caller_of(context)
        model, created = await self._creator.create(config, caller.name, caller.turn_key)
        return model_pb2.CreateModelResponse(model=render_model(model.stored), created=created)

    async def GetModel(self, request: model_pb2.GetModelRequest, context: Call) -> model_pb2.GetModelResponse:
        """See model.proto."""
        model = await self._models.model(request.model_id)
        return model_pb2.GetModelResponse(model=render_model(model.stored))

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: Call
    ) -> model_pb2.ListModelsResponse:
        """See model.proto. Bypasses the cache, so that a listing evicts nothing."""
        page_size, after = parse_page(request, self._limits)
        model_ids = await self._store.list_ids(page_size + 1, after)
        page = model_pb2.ListModelsResponse()
        last = await self._list(model_ids[:page_size], page)
        page.next_page_token = "" if last in model_ids[-1:] else last
        return page

    async def _list(self, model_ids: list[str], page: model_pb2.ListModelsResponse) -> str:
        """Adds models to a page, at least one, up to max_message_bytes.

        Returns:
          The last of the ids that the page covers; "" if there are none.
        """
        page_bytes, last = 0, ""
        for start in range(0, len(model_ids), _PAGE_READS):
            reads = model_ids[start : start + _PAGE_READS]
            found = await asyncio.gather(*map(self._store.load, reads), return_exceptions=True)
            for model_id, model in zip(reads, found, strict=True):
                if isinstance(model, StoredModel):
                    message = render_model(model)
                    page_bytes += message.ByteSize()
                    if page.models and page_bytes > self._limits.max_message_bytes:
                        return last
                    page.models.append(message)
                elif isinstance(model, DataLossError):
                    page.damaged_model_ids.append(model_id)
                elif not isinstance(model, ModelNotFoundError):  # deleted after it was listed
                    raise model
                last = model_id
        return last

    async def DeleteModel(
        self, request: model_pb2.DeleteModelRequest, context: Call
    ) -> model_pb2.DeleteModelResponse:
        """See model.proto."""
        await self._store.delete(checked_model_id(request.model_id))
        self._models.forget(request.model_id)
        return model_pb2.DeleteModelResponse()

    async def GetTables(
        self, request: model_pb2.GetTablesRequest, context: Call
    ) -> model_pb2.GetTablesResponse:
        """See model.proto."""
        tables = (await self._models.codec(request.model_id)).tables
        return model_pb2.GetTablesResponse(
            tables=types_pb2.Tables(
                cdf=tensor_to_message(tables.cdf),
                cdf_offset=tensor_to_message(tables.cdf_offset),
                digest=tables.digest,
            )
        )

    async def GetWeights(
        self, request: model_pb2.GetWeightsRequest, context: Call
    ) -> model_pb2.GetWeightsResponse:
        """See model.proto."""
        model = await self._models.model(request.model_id)
        return model_pb2.GetWeightsResponse(
            weights=[
                model_pb2.NamedTensor(name=name, tensor=tensor_to_message(array))
                for name, array in weights_of(model.stored).items()
            ]
        )

    async def SetWeights(
        self, request: model_pb2.SetWeightsRequest, context: Call
    ) -> model_pb2.SetWeightsResponse:
        """See model.proto."""
        stored = (await self._models.model(request.model_id)).stored
        arrays = parse_weights(request.weights, stored)
        config = await asyncio.to_thread(with_weights, stored, arrays)
        caller = self._caller_of(context)
        model, _ = await self._creator.create(config, caller.name, caller.turn_key)
        return model_pb2.SetWeightsResponse(model=render_model(model.stored))

    async def ExportModel(
        self, request: model_pb2.ExportModelRequest, context: Call
    ) -> model_pb2.ExportModelResponse:
        """See model.proto."""
        return model_pb2.ExportModelResponse(
            object=await self._store.read(checked_model_id(request.model_id))
        )

    async def ImportModel(
        self, request: model_pb2.ImportModelRequest, context: Call
    ) -> model_pb2.ImportModelResponse:
        """See model.proto."""
        caller = self._caller_of(context)
        model, created = await self._importer.add(
            request.object, caller.name, may_choose_tables=caller.is_admin
        )
        return model_pb2.ImportModelResponse(model=render_model(model.stored), created=created)

    async def Perturb(self, request: model_pb2.PerturbRequest, context: Call) -> model_pb2.PerturbResponse:
        """See model.proto."""
        model = await self._models.model(request.model_id)
        call, batch_shape = parse_perturb(request, model.stored.config, self._limits)
        if not len(call.units):
            return render_perturbed(nothing_perturbed(call), call, batch_shape)
        perturbed = await self._perturber.perturb(call, context.time_remaining())
        return render_perturbed(perturbed, call, batch_shape)

    async def FitModel(self, requests: AsyncIterator[model_pb2.FitModelRequest], context: Call) -> None:
        """See model.proto."""
        caller = self._caller_of(context)
        await self._quota.check(caller.name)
        task = await read_task(requests, self._limits)
        fitted = task.config
        async with contextlib.aclosing(self._fitter.fit(task, caller.turn_key)) as states:
            async for state in states:
                fitted = replace(task.config, prior=state.prior)
                progress = model_pb2.FitProgress(
                    step=state.step,
                    bits_per_element=state.bits_per_element,
                    remaining_seconds=state.remaining_seconds,
                )
                await context.write(model_pb2.FitModelResponse(progress=progress))
        model, _ = await self._creator.create(fitted, caller.name, caller.turn_key)
        await context.write(model_pb2.FitModelResponse(model=render_model(model.stored)))
