"""ModelService: creates, describes, perturbs and fits models; see model.proto."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NamedTuple

from entropyd.contract.errors import DataLossError, ModelNotFoundError
from entropyd.contract.kinds import config_from_message
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import model_pb2 as pb
from entropyd.v1 import model_pb2_grpc, types_pb2
from entropyd_server.limits import Limits
from entropyd_server.modeling.fitter import Fitter
from entropyd_server.modeling.perturber import Perturber
from entropyd_server.models.cache import ModelCache, checked_model_id
from entropyd_server.models.creation import ModelCreator
from entropyd_server.models.importing import ModelImporter
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
      turn_key: Callers with one key count as one where the builds and fits of callers take turns.
      is_admin: Whether the caller may do everything.
    """

    name: str
    turn_key: str
    is_admin: bool


@dataclass(frozen=True, eq=False)
class ModelService(model_pb2_grpc.ModelServiceServicer):
    store: ModelStore
    models: ModelCache
    quota: ModelQuota
    creator: ModelCreator
    importer: ModelImporter
    perturber: Perturber
    fitter: Fitter
    limits: Limits
    caller_of: Callable[[Call], ModelCaller]

    async def CreateModel(self, request: pb.CreateModelRequest, context: Call) -> pb.CreateModelResponse:
        config = await asyncio.to_thread(config_from_message, request.config)
        caller = self.caller_of(context)
        model, created = await self.creator.create(config, caller.name, caller.turn_key)
        return pb.CreateModelResponse(model=render_model(model.stored), created=created)

    async def GetModel(self, request: pb.GetModelRequest, context: Call) -> pb.GetModelResponse:
        model = await self.models.model(request.model_id)
        return pb.GetModelResponse(model=render_model(model.stored))

    async def ListModels(self, request: pb.ListModelsRequest, context: Call) -> pb.ListModelsResponse:
        # Bypasses the cache, so that a listing evicts nothing.
        page_size, after = parse_page(request, self.limits)
        model_ids = await self.store.list_ids(page_size + 1, after)
        page = pb.ListModelsResponse()
        last = await self._list(model_ids[:page_size], page)
        page.next_page_token = "" if last in model_ids[-1:] else last
        return page

    async def _list(self, model_ids: list[str], page: pb.ListModelsResponse) -> str:
        """Adds models to a page, at least one, up to max_message_bytes.

        Returns:
          The last of the ids that the page covers; "" if there are none.
        """
        page_bytes, last = 0, ""
        for start in range(0, len(model_ids), _PAGE_READS):
            reads = model_ids[start : start + _PAGE_READS]
            found = await asyncio.gather(*map(self.store.load, reads), return_exceptions=True)
            for model_id, model in zip(reads, found, strict=True):
                if isinstance(model, StoredModel):
                    message = render_model(model)
                    page_bytes += message.ByteSize()
                    if page.models and page_bytes > self.limits.max_message_bytes:
                        return last
                    page.models.append(message)
                elif isinstance(model, DataLossError):
                    page.damaged_model_ids.append(model_id)
                elif not isinstance(model, ModelNotFoundError):  # deleted after it was listed
                    raise model
                last = model_id
        return last

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Call) -> pb.DeleteModelResponse:
        await self.store.delete(checked_model_id(request.model_id))
        self.models.forget(request.model_id)
        return pb.DeleteModelResponse()

    async def GetTables(self, request: pb.GetTablesRequest, context: Call) -> pb.GetTablesResponse:
        tables = await self.models.tables(request.model_id)
        arrays = {name: tensor_to_message(array) for name, array in tables.raw.by_name().items()}
        return pb.GetTablesResponse(tables=types_pb2.Tables(**arrays, digest=tables.digest))

    async def GetWeights(self, request: pb.GetWeightsRequest, context: Call) -> pb.GetWeightsResponse:
        model = await self.models.model(request.model_id)
        return pb.GetWeightsResponse(
            weights=[
                pb.NamedTensor(name=name, tensor=tensor_to_message(weight.elements, weight.dtype))
                for name, weight in weights_of(model.stored).items()
            ]
        )

    async def SetWeights(self, request: pb.SetWeightsRequest, context: Call) -> pb.SetWeightsResponse:
        stored = (await self.models.model(request.model_id)).stored
        arrays = parse_weights(request.weights, stored)
        config = await asyncio.to_thread(with_weights, stored, arrays)
        caller = self.caller_of(context)
        model, _ = await self.creator.create(config, caller.name, caller.turn_key)
        return pb.SetWeightsResponse(model=render_model(model.stored))

    async def ExportModel(self, request: pb.ExportModelRequest, context: Call) -> pb.ExportModelResponse:
        return pb.ExportModelResponse(object=await self.store.read(checked_model_id(request.model_id)))

    async def ImportModel(self, request: pb.ImportModelRequest, context: Call) -> pb.ImportModelResponse:
        caller = self.caller_of(context)
        model, created = await self.importer.add(
            request.object, caller.name, may_choose_tables=caller.is_admin
        )
        return pb.ImportModelResponse(model=render_model(model.stored), created=created)

    async def Perturb(self, request: pb.PerturbRequest, context: Call) -> pb.PerturbResponse:
        model = await self.models.model(request.model_id)
        call, batch_shape = parse_perturb(request, model.stored.live_config, self.limits)
        if not len(call.units):
            return render_perturbed(nothing_perturbed(call), call, batch_shape)
        perturbed = await self.perturber.perturb(call, context.time_remaining())
        return render_perturbed(perturbed, call, batch_shape)

    async def FitModel(self, requests: AsyncIterator[pb.FitModelRequest], context: Call) -> None:
        caller = self.caller_of(context)
        await self.quota.check(caller.name)
        task = await read_task(requests, self.limits)
        fitted = task.config
        async with contextlib.aclosing(self.fitter.fit(task, caller.turn_key)) as states:
            async for state in states:
                fitted = task.config.with_prior(state.prior)
                progress = pb.FitProgress(
                    step=state.step,
                    bits_per_element=state.bits_per_element,
                    remaining_seconds=state.remaining_seconds,
                )
                await context.write(pb.FitModelResponse(progress=progress))
        model, _ = await self.creator.create(fitted, caller.name, caller.turn_key)
        await context.write(pb.FitModelResponse(model=render_model(model.stored)))
