"""ModelService with workers: perturbs and fits models besides; see model.proto."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from entropyd.v1 import model_pb2 as pb
from entropyd_server.modeling.fitter import Fitter
from entropyd_server.modeling.perturber import Perturber
from entropyd_server.rpc.registry_service import RegistryService
from entropyd_server.rpc.requests.fit import read_task
from entropyd_server.rpc.requests.perturb import nothing_perturbed, parse_perturb, render_perturbed
from entropyd_server.rpc.requests.registry import render_model
from entropyd_server.transport.call import Call


@dataclass(frozen=True, eq=False)
class ModelService(RegistryService):
    perturber: Perturber
    fitter: Fitter

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
