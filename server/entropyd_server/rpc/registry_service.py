"""ModelService as far as it needs no worker: models as objects; see model.proto."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import DataLossError, ModelNotFoundError, RoleMissingError
from entropyd.contract.kinds import config_from_message
from entropyd.contract.names import checked_name
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import model_pb2 as pb
from entropyd.v1 import model_pb2_grpc, types_pb2
from entropyd_server.errors import limit_exceeded
from entropyd_server.limits import Limits
from entropyd_server.models.cache import LoadedModel, ModelCache, checked_model_id
from entropyd_server.models.creation import ModelCreator
from entropyd_server.models.importing import ModelImporter
from entropyd_server.models.quota import ModelQuota
from entropyd_server.models.weights import weights_of, with_weights
from entropyd_server.rpc.requests.registry import (
    parse_expected,
    parse_names_page,
    parse_page,
    parse_weights,
    render_model,
)
from entropyd_server.store.model_store import ModelStore
from entropyd_server.transport.call import Call

# Objects of a page after which its size is looked at.
_PAGE_READS = 8
# Objects that are read for pages at a time, by all callers together: while a model is checked, it takes some
# ten times the bytes of its tables, which the cache does not count.
_LISTED_READS = 2


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
class RegistryService(model_pb2_grpc.ModelServiceServicer):
    store: ModelStore
    models: ModelCache
    quota: ModelQuota
    creator: ModelCreator
    importer: ModelImporter
    limits: Limits
    caller_of: Callable[[Call], ModelCaller]
    _listed_reads: asyncio.Semaphore = field(
        init=False, default_factory=lambda: asyncio.Semaphore(_LISTED_READS)
    )

    async def CreateModel(self, request: pb.CreateModelRequest, context: Call) -> pb.CreateModelResponse:
        config = await asyncio.to_thread(config_from_message, request.config)
        model, created = await self._create(config, context)
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
            found = await asyncio.gather(*map(self._rendered, reads), return_exceptions=True)
            for model_id, model in zip(reads, found, strict=True):
                if isinstance(model, pb.Model):
                    page_bytes += model.ByteSize()
                    if page.models and page_bytes > self.limits.max_message_bytes:
                        return last
                    page.models.append(model)
                elif isinstance(model, DataLossError):
                    page.damaged_model_ids.append(model_id)
                elif not isinstance(model, ModelNotFoundError):  # deleted after it was listed
                    raise model
                last = model_id
        return last

    async def _rendered(self, model_id: str) -> pb.Model:
        async with self._listed_reads:
            return render_model(await self.store.load(model_id))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Call) -> pb.DeleteModelResponse:
        model_id = checked_model_id(request.model_id)
        try:
            await self.store.delete(model_id)
        finally:
            # Also if the store has none, or may have deleted it: this server must not serve it any more.
            self.models.forget(model_id)
        return pb.DeleteModelResponse()

    async def SetModelName(self, request: pb.SetModelNameRequest, context: Call) -> pb.SetModelNameResponse:
        name, expected = checked_name(request.name), parse_expected(request)
        await self.models.stored_model(request.model_id)
        previous = await self.store.names.move(name, request.model_id, expected)
        return pb.SetModelNameResponse(previous_model_id=previous)

    async def DeleteModelName(
        self, request: pb.DeleteModelNameRequest, context: Call
    ) -> pb.DeleteModelNameResponse:
        name = checked_name(request.name)
        model_id = await self.store.names.move(name, "", parse_expected(request))
        if not model_id:
            raise _no_name(name)
        return pb.DeleteModelNameResponse(model_id=model_id)

    async def ResolveModelName(
        self, request: pb.ResolveModelNameRequest, context: Call
    ) -> pb.ResolveModelNameResponse:
        name = checked_name(request.name)
        model_id = await self.store.names.get(name)
        if not model_id:
            raise _no_name(name)
        try:
            await self.models.model(model_id)
        except ModelNotFoundError as error:
            what = f"the name {name} points at model {model_id}, which is not in the store"
            raise ModelNotFoundError(what, metadata={"name": name, "model_id": model_id}) from error
        return pb.ResolveModelNameResponse(model_id=model_id)

    async def ListModelNames(
        self, request: pb.ListModelNamesRequest, context: Call
    ) -> pb.ListModelNamesResponse:
        held, next_token = await self.store.names.page(*parse_names_page(request, self.limits))
        names = [pb.ModelName(name=name, model_id=model_id) for name, model_id in held.items()]
        return pb.ListModelNamesResponse(names=names, next_page_token=next_token)

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
        model, _ = await self._create(config, context)
        return pb.SetWeightsResponse(model=render_model(model.stored))

    async def ExportModel(self, request: pb.ExportModelRequest, context: Call) -> pb.ExportModelResponse:
        blob = await self.store.read(checked_model_id(request.model_id))
        if len(blob) > (most := self.limits.max_message_bytes):
            found, advice = f"the model's object of {len(blob)} bytes exceeds", "; copy it from the store"
            raise limit_exceeded(found, "max_message_bytes", most, advice)
        return pb.ExportModelResponse(object=blob)

    async def ImportModel(self, request: pb.ImportModelRequest, context: Call) -> pb.ImportModelResponse:
        caller = self.caller_of(context)
        model, created = await self.importer.add(
            request.object, caller.name, may_choose_tables=caller.is_admin
        )
        return pb.ImportModelResponse(model=render_model(model.stored), created=created)

    async def _create(self, config: ModelConfig, context: Call) -> tuple[LoadedModel, bool]:
        """Creates a model for the caller; see `ModelCreator.create`."""
        caller = self.caller_of(context)
        try:
            return await self.creator.create(config, caller.name, caller.turn_key)
        except RoleMissingError as raised:
            error = copy(raised)  # calls of another method may share it
            error.metadata = {**raised.metadata, "method": context.method.rpartition("/")[2]}
            raise error from None


def _no_name(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"no model has the name {name}", metadata={"name": name})
