"""The registry role: models as objects, and those whose tables are supplied, without TensorFlow."""

from __future__ import annotations

from functools import partial
from typing import Any

from entropyd.v1 import model_pb2
from entropyd_server.installation import MODELING
from entropyd_server.models.creation import ModelCreator
from entropyd_server.models.importing import ModelImporter
from entropyd_server.models.quota import ModelQuota
from entropyd_server.models.table_builder import NoTableBuilder, TableBuilder
from entropyd_server.roles.base import Role, Shared
from entropyd_server.rpc.registry_service import ModelCaller, RegistryService
from entropyd_server.security.access import ANYBODY, Access
from entropyd_server.security.tokens import Scope
from entropyd_server.transport.call import Call

MODEL_SERVICE = model_pb2.DESCRIPTOR.services_by_name["ModelService"]


class RegistryRole(Role):
    """The models of the store, behind the methods of ModelService that need no worker."""

    service = MODEL_SERVICE
    lacks = {"FitModel": MODELING, "Perturb": MODELING}  # noqa: RUF012 - a constant, as the base class says

    def __init__(self, shared: Shared) -> None:
        self.servicer = RegistryService(**registry(shared, NoTableBuilder()))

    async def start(self) -> None:
        """Has nothing to start: models are read when they are asked for."""

    async def close(self) -> None:
        """Has nothing to end."""


def registry(shared: Shared, builder: TableBuilder) -> dict[str, Any]:
    """Returns the parts of a `RegistryService`, by name."""
    store, models, limits = shared.store, shared.models, shared.limits
    quota = ModelQuota(store, limits.max_models_per_caller)
    return {
        "store": store,
        "models": models,
        "quota": quota,
        "creator": ModelCreator(models, quota, builder, limits.max_model_bytes, shared.metrics),
        "importer": ModelImporter(store, models, quota, limits.max_model_bytes),
        "limits": limits,
        "caller_of": partial(_caller, shared.access),
    }


def _caller(access: Access, call: Call) -> ModelCaller:
    """Identifies the caller of a call; without tokens, each connection has a turn of its own."""
    token = access.caller(call.invocation_metadata())
    turn_key = call.connection.decode(errors="replace") if token is ANYBODY else token.name
    return ModelCaller(token.name, turn_key, is_admin=Scope.ADMIN in token.scopes)
